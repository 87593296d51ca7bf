"""Rows of files on a claim."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.sources.files import local_file
from finetune_trainer.sources.rows import SHOWN, FileRows, StoredFile, check_kind, files_of_split
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import sha256_of_file


def claim_rows(path: Path, uri: str, split: str, field: str) -> FileRows:
    """The rows of a file, or of a split's files in a folder.

    Raises StageError: DatasetNotFound when there is none, DatasetInvalid for one that is no kind of dataset.
    """
    if path.is_dir():
        paths = [path / name for name in files_of_split(_names(path, split), split, uri)]
    elif path.is_file():
        paths = [path]
    else:
        raise StageError(Reason.DATASET_NOT_FOUND, f"{uri} is not there{_neighbours(path)}")
    stored = [_stored(one, uri) for one in paths]
    return FileRows(paths[0].name if len(paths) == 1 else f"{uri} {split}", field, stored)


def _stored(path: Path, uri: str) -> StoredFile:
    extension, is_compressed = check_kind(path.name, uri)
    return StoredFile(local_file(path, path.name, extension, is_compressed), partial(sha256_of_file, path))


def _names(folder: Path, split: str) -> list[str]:
    """Files in a folder and in the folder of a split, relative to it."""
    inside = folder / split
    entries = [*folder.iterdir(), *(inside.iterdir() if inside.is_dir() else ())]
    return [entry.relative_to(folder).as_posix() for entry in entries if entry.is_file()]


def _neighbours(path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.is_dir())
    names = sorted(entry.name for entry in parent.iterdir())[:SHOWN]
    return f"; {parent} holds {', '.join(names) or 'nothing'}"
