"""A split of a dataset, and the file that holds it on a claim."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.sources.files import EXTENSIONS
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class DatasetSource:
    """A split of a dataset: of a hub repository at a commit, or below a path of this pod."""

    uri: str
    split: str
    field: str  # of the spec, for messages: spec.dataset or spec.evaluation.dataset
    repository: str = ""  # "owner/name"; empty for a claim
    commit: str = ""
    config: str | None = None
    path: Path = Path()  # on a claim


def find_file(source: DatasetSource) -> Path:
    """The file of a source on a claim: itself, or the one of its split in a folder.

    Raises StageError: DatasetNotFound when there is none, DatasetInvalid for one that is no kind of dataset.
    """
    path = source.path
    if path.is_dir():
        candidates = [path / f"{source.split}{extension}" for extension in EXTENSIONS]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if len(found) != 1:
            problem = "more than one of" if found else "none of"
            names = ", ".join(candidate.name for candidate in candidates)
            raise StageError(Reason.DATASET_NOT_FOUND, f"{source.uri} is a folder with {problem} {names}")
        return found[0]
    if not path.is_file():
        raise StageError(Reason.DATASET_NOT_FOUND, f"{source.uri} is not there{_neighbours(path)}")
    if path.suffix not in EXTENSIONS:
        raise StageError(Reason.DATASET_INVALID, f"{source.uri} must end in one of {', '.join(EXTENSIONS)}")
    return path


def _neighbours(path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.is_dir())
    names = sorted(entry.name for entry in parent.iterdir())[:8]
    return f"; {parent} holds {', '.join(names) or 'nothing'}"
