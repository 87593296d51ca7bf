"""What comes from the Hugging Face hub: the commit behind a revision, and the rows of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from finetune_api.reasons import Reason
from finetune_api.uris import ClaimPath, HubSource, parse_source
from finetune_trainer.sources.hub_errors import is_elsewhere
from finetune_trainer.stage.failure import StageError

Kind = Literal["model", "dataset"]
_PROBE_FILE = {"model": "config.json", "dataset": "README.md"}
_SCRIPT = "Dataset scripts are no longer supported"  # the start of a RuntimeError
_NOT_FOUND = {"model": Reason.MODEL_NOT_FOUND, "dataset": Reason.DATASET_NOT_FOUND}


def resolve_revision(source: str, revision: str, kind: Kind) -> str:
    """The commit that a branch or tag stands for now; empty for a pvc:// source.

    Offline it is read from the cache. Raises StageError (ModelNotFound, DatasetNotFound) when the hub or the cache has
    no such repository or revision.
    """
    location = parse_source(source)
    if isinstance(location, ClaimPath):
        return ""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return HfApi().repo_info(location.repository, revision=revision, repo_type=kind, timeout=30).sha or ""
    except OfflineModeIsEnabled:
        return _cached_commit(location, revision, kind)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (401, 403, 404):
            raise
        raise StageError(
            _NOT_FOUND[kind], f"the hub does not give {source} at revision {revision!r} (HTTP {status})"
        ) from error


def _cached_commit(location: HubSource, revision: str, kind: Kind) -> str:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(location.repository, _PROBE_FILE[kind], revision=revision, repo_type=kind)
    if not isinstance(path, str):
        raise StageError(
            _NOT_FOUND[kind], f"hf://{location.repository} at {revision!r} is not in the cache, and the hub is off"
        )
    return Path(path).parent.name


def dataset_rows(location: HubSource, revision: str, split: str) -> Iterator[tuple[int, Any]]:
    """Yields (row number from 1, raw row) of a hub dataset's split.

    Raises StageError: DatasetNotFound when the repository has no such data or split, DatasetInvalid when its files
    can't be read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from pyarrow import ArrowException

    where = f"hf://{location.repository} split {split!r}"
    try:
        rows = load_dataset(location.repository, split=split, revision=revision)
    except (DatasetsError, ArrowException, FileNotFoundError, RuntimeError, ValueError) as error:
        if is_elsewhere(error, HF_HUB_OFFLINE):
            raise
        if isinstance(error, (DatasetsError, ArrowException)) and not isinstance(error, FileNotFoundError):
            raise StageError(Reason.DATASET_INVALID, f"{where}: {_unreadable(error)}") from error
        if isinstance(error, (FileNotFoundError, ValueError)) or str(error).startswith(_SCRIPT):
            raise StageError(Reason.DATASET_NOT_FOUND, f"{where}: {error}") from error
        raise
    yield from enumerate(rows, start=1)


def _unreadable(error: Exception) -> str:
    """What was wrong with a file: the second line of the library's own text, or else its cause's first and last."""
    lines = _lines(error)
    if len(lines) > 1:
        return lines[1]
    lines = _lines(error.__cause__ or error)
    return f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else "".join(lines)


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]
