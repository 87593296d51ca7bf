"""The rows of a dataset, wherever it lies: named, streamed, and told apart from other content by a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from finetune_api.base import sha256_of
from finetune_api.reasons import Reason
from finetune_trainer.sources.files import EXTENSIONS, GZIP, RowFile, kind_of, read_file
from finetune_trainer.stage.failure import StageError

_SHOWN = 8


class RowSource(Protocol):
    """A split of a dataset."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def field(self) -> str:
        """The dataset's field of the spec, such as spec.dataset."""
        ...

    @property
    def commit(self) -> str | None:
        """The commit of a hub dataset."""
        ...

    def rows(self) -> Iterator[tuple[str, object]]:
        """Yields (place of the row, raw row); an UnreadableRow stands for one that can't be read.

        Raises StageError: DatasetNotFound, DatasetInvalid or CredentialsRejected.
        """
        ...

    def content_key(self) -> str:
        """A digest of the content that takes less than reading the rows."""
        ...


@dataclass(frozen=True)
class StoredFile:
    """A file on a claim or in a bucket."""

    file: RowFile
    key: Callable[[], str]  # digest of its content, or what changes with it


class FileRows:
    """Rows of one or more files, read one after the other."""

    commit = None

    def __init__(self, name: str, field: str, files: Sequence[StoredFile]) -> None:
        self.name, self.field, self._files = name, field, files

    def rows(self) -> Iterator[tuple[str, object]]:
        """See :class:`RowSource`."""
        for stored in self._files:
            for number, raw in read_file(stored.file):
                yield f"{stored.file.name} row {number}", raw

    def content_key(self) -> str:
        """See :class:`RowSource`."""
        return sha256_of([[stored.file.name, stored.key()] for stored in self._files])


def files_of_split(names: Sequence[str], split: str, uri: str) -> list[str]:
    """The files of a split among ``names`` below a folder: one, its shards in order, or those of a folder of its name.

    ``names`` are relative paths. Raises StageError (DatasetNotFound) for none, and where it is there in more than one
    way.
    """
    alone = [name for name in names if kind_of(name) and _stem(name) == split]
    shards = [name for name in names if kind_of(name) and "/" not in name and _stem(name).startswith(f"{split}-")]
    inside = [name for name in names if kind_of(name) and name.startswith(f"{split}/") and name.count("/") == 1]
    ways = [sorted(way) for way in (alone, shards, inside) if way]
    kinds = {kind_of(name) for way in ways for name in way}
    if len(ways) == 1 and len(kinds) == 1 and len(alone) <= 1:
        return ways[0]
    if not ways:
        wanted = ", ".join(f"{split}{extension}" for extension in EXTENSIONS)
        there = ", ".join(sorted(names)[:_SHOWN]) or "nothing"
        problem = f"none of {wanted}, perhaps with {GZIP}, shards {split}-*, or a folder {split}; there is {there}"
    else:
        problem = f"more than one of {', '.join([name for way in ways for name in way][:_SHOWN])} for split {split}: name one of them"
    raise StageError(Reason.DATASET_NOT_FOUND, f"{uri} is a folder with {problem}")


def check_kind(name: str, uri: str) -> tuple[str, bool]:
    """How to read a file. Raises StageError (DatasetInvalid) for one that is no kind of dataset."""
    kind = kind_of(name)
    if kind is None:
        endings = f"{', '.join(EXTENSIONS)}; text files may have {GZIP} behind it"
        raise StageError(Reason.DATASET_INVALID, f"{uri} must end in one of {endings}")
    return kind


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return PurePosixPath(path.stem).stem if path.suffix == GZIP else path.stem if "/" not in name else ""
