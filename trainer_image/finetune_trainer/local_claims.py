"""Folders in place of claims, as ``--mount CLAIM=FOLDER`` names them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from finetune_api.config import ClaimMount
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError


def parse_mounts(texts: Iterable[str]) -> dict[str, Path]:
    """Folders by claim, of ``CLAIM=FOLDER``. Raises StageError (InvalidSpec) for another text, no folder, or two."""
    found: dict[str, Path] = {}
    for claim, folder in map(_parse_mount, texts):
        if found.setdefault(claim, folder) != folder:
            problem = f"--mount {claim}: two folders are given, {found[claim]} and {folder}"
            raise StageError(Reason.INVALID_SPEC, problem, "give one")
    return found


def check_named(given: Iterable[str], claims: Iterable[str]) -> None:
    """Raises StageError (InvalidSpec) for a mount of a claim that the spec does not name."""
    known = list(dict.fromkeys(claims))
    for claim in given:
        if claim not in known:
            raise StageError(
                Reason.INVALID_SPEC,
                f"--mount {claim}: the spec has no claim of that name, but {', '.join(known)}",
                "correct it",
            )


def mount(claim: str, folder: Path) -> ClaimMount:
    """A folder for a claim. Raises StageError (InvalidSpec) when it is not there."""
    if not folder.is_dir():
        text = f"no folder stands for the claim {claim!r}: {folder} is not there"
        raise StageError(Reason.INVALID_SPEC, text, f"make that folder, or give --mount {claim}=FOLDER")
    return ClaimMount(claim=claim, path=str(folder.resolve()))


def _parse_mount(text: str) -> tuple[str, Path]:
    claim, separator, folder = text.partition("=")
    if not separator or not claim or not Path(folder).is_dir():
        raise StageError(
            Reason.INVALID_SPEC, f"--mount {text}: must be CLAIM=FOLDER, with a folder that exists", "correct it"
        )
    return claim, Path(folder)
