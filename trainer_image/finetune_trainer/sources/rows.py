"""The rows of a dataset, wherever it lies: named, streamed, and told apart from other content by a key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from finetune_api.base import sha256_of
from finetune_api.reasons import Reason
from finetune_trainer.sources.files import EXTENSIONS, GZIP, RowFile, kind_of, read_file
from finetune_trainer.stage.failure import StageError

SHOWN = 8  # names in a message


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

    ``names`` are relative paths. Raises StageError: DatasetNotFound for none, and where the split is there in more than
    one way or kind of file; DatasetInvalid for shards that count more of themselves than there are.
    """
    ways: dict[str, list[str]] = {}
    for name in sorted(names):
        if way := _way(name, split):
            ways.setdefault(way, []).append(name)
    found = [name for way in ways.values() for name in way]
    if not found:
        wanted = ", ".join(f"{split}{extension}" for extension in EXTENSIONS)
        there = ", ".join(sorted(names)[:SHOWN]) or "nothing"
        problem = f"none of {wanted}, perhaps with {GZIP}, shards {split}-*, or a folder {split}/; there is {there}"
        raise StageError(Reason.DATASET_NOT_FOUND, f"{uri} is a folder with {problem}")
    kinds = {kind_of(name): name for name in found}
    if len(ways) > 1 or len(kinds) > 1 or len(ways.get(split, ())) > 1:
        shown = ", ".join([*{way[0]: way for way in ways.values()}, *kinds.values()])
        raise StageError(
            Reason.DATASET_NOT_FOUND,
            f"{uri} has split {split} in more than one way: {shown}",
            "take away all but one, or name a file",
        )
    _check_shards(found, uri)
    return found


def _way(name: str, split: str) -> str:
    """How a file belongs to a split: as the one of its name, as a shard, or in a folder; empty for not at all."""
    folder, _, file = name.rpartition("/")
    if kind_of(name) is None or file.startswith("."):
        return ""
    if folder:
        return f"{split}/" if folder == split else ""
    stem = _stem(file)
    return split if stem == split else f"{split}-" if stem.startswith(f"{split}-") else ""


_SHARD = re.compile(r"-(\d+)-of-(\d+)$")


def _check_shards(names: Sequence[str], uri: str) -> None:
    """Shards as the hub names them, such as train-00000-of-00003.parquet, must all be there."""
    numbered = [_SHARD.search(_stem(name)) for name in names]
    if any(one is None for one in numbered):
        return
    shards = {(int(one[1]), int(one[2])) for one in numbered if one}
    counts = {count for _, count in shards}
    if len(counts) > 1 or len(shards) != max(counts):
        count = max(counts)
        raise StageError(
            Reason.DATASET_INVALID,
            f"{uri} holds {len(names)} of shards that count {count}: {', '.join(names[:SHOWN])}",
            "copy the folder again, or rename the files if these are all",
        )


def check_kind(name: str, uri: str) -> tuple[str, bool]:
    """How to read a file. Raises StageError (DatasetInvalid) for one that is no kind of dataset."""
    kind = kind_of(name)
    if kind is None:
        endings = f"{', '.join(EXTENSIONS)}; text files may have {GZIP} behind it"
        raise StageError(Reason.DATASET_INVALID, f"{uri} must end in one of {endings}")
    return kind


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return PurePosixPath(path.stem).stem if path.suffix == GZIP else path.stem
