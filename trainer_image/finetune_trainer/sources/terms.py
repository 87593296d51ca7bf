"""Terms of checks that lie in a file: a blocklist, or phrases that are due."""

from __future__ import annotations

from pathlib import Path

from finetune_api.base import sha256_of
from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.sources import terms_read
from finetune_api.uris import parse_claim
from finetune_trainer.stage.failure import StageError

MAX_TERMS = 10_000
MAX_LENGTH = 256  # characters of a term
_MAX_BYTES = 4 * MAX_TERMS * MAX_LENGTH

# By the name of the check.
Terms = dict[str, list[str]]


def read_terms(config: RunConfig) -> Terms:
    """The terms of each check that names a file.

    Raises StageError: DatasetNotFound for a file that isn't there, DatasetInvalid for one that is no text in UTF-8, has
    too many or too long lines, or none.
    """
    return {
        name: _read(config.local_path(parse_claim(uri)), uri, f"spec.evaluation.checks[{name}].termsFrom.source")
        for name, uri in terms_read(config.spec).items()
    }


def sha256_of_terms(terms: Terms) -> str | None:
    """A digest of all of them; None for none."""
    return sha256_of(terms) if terms else None


def terms_in(text: str) -> list[str]:
    """The terms of a text: its lines, but for empty ones and those that begin with #."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read(path: Path, uri: str, field: str) -> list[str]:
    if not path.is_file():
        raise StageError(Reason.DATASET_NOT_FOUND, f"{field}: {uri} is no file that is there", "check its path")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(field, f"{uri} is no text in UTF-8 (byte {error.start})") from error
    found = terms_in(text)
    if not found:
        raise _invalid(field, f"{uri} has no term")
    if len(text) > _MAX_BYTES or len(found) > MAX_TERMS:
        raise _invalid(field, f"{uri} has more than {MAX_TERMS:,} terms")
    if too_long := next((term for term in found if len(term) > MAX_LENGTH), None):
        raise _invalid(field, f"{uri} has a term of {len(too_long):,} characters; at most {MAX_LENGTH} are taken")
    return found


def _invalid(field: str, problem: str) -> StageError:
    return StageError(Reason.DATASET_INVALID, f"{field}: {problem}", "write a term on each line")
