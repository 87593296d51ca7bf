"""What comes from the Hugging Face hub: the commit behind a revision, and the rows of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from finetune_api.reasons import Reason
from finetune_api.uris import ClaimPath, HubSource, parse_source
from finetune_trainer.failure import StageError

Kind = Literal["model", "dataset"]
_PROBE_FILE = {"model": "config.json", "dataset": "README.md"}
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

    Raises StageError (DatasetNotFound) when the repository has no such data or split.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        rows = load_dataset(location.repository, split=split, revision=revision)
    except (DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        raise StageError(Reason.DATASET_NOT_FOUND, f"hf://{location.repository} split {split!r}: {error}") from error
    yield from enumerate(rows, start=1)
