"""Tokenised rows on disk: written in batches, read where they lie, so that memory holds few of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.data.tokenize import IGNORED, TokenRow

_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        # What the loss sees: where each stretch of labels begins and ends.
        ("seen", pa.list_(pa.int32())),
        ("source", pa.int32()),  # the row that it comes from, counted over all that were kept
    ]
)
_BATCH = 1000
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class StoredRow:
    """A tokenised row, and which kept row it comes from."""

    row: TokenRow
    source: int


class TokenWriter:
    """Writes rows to a file. Use it as a context."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, _SCHEMA)
        self._rows: list[StoredRow] = []

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._file.close()
        self._sink.close()

    def write(self, rows: Iterable[TokenRow], source: int) -> None:
        """Adds the rows of one kept row."""
        self._rows += [StoredRow(row, source) for row in rows]
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_batch(_batch(self._rows))
            self._rows = []


class TokenStore(Sequence[TokenRow]):
    """Rows in a table, of which ``places`` are meant, in this order."""

    def __init__(self, table: pa.Table, places: Numbers | None = None) -> None:
        self._table = table
        self._places = np.arange(table.num_rows) if places is None else places
        self._all_lengths = pa.compute.list_value_length(table["input_ids"]).to_numpy().astype(np.int64)

    @classmethod
    def open(cls, path: Path) -> TokenStore:
        """The rows of a file, mapped into memory."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenStore:
        """Rows in memory."""
        stored = [StoredRow(row, number) for number, row in enumerate(rows)]
        return cls(pa.Table.from_batches([_batch(stored)] if stored else [], _SCHEMA))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place = int(self._places[index])
        ids, seen = self._table["input_ids"][place].as_py(), self._table["seen"][place].as_py()
        labels = [IGNORED] * len(ids)
        for start, end in zip(seen[::2], seen[1::2], strict=True):
            labels[start:end] = ids[start:end]
        return TokenRow(ids, labels)

    @property
    def lengths(self) -> Numbers:
        """Tokens of each row."""
        found: Numbers = self._all_lengths[self._places]
        return found

    @property
    def response_lengths(self) -> Numbers:
        """Tokens of each row that count in the loss; the first of a row has nothing before it."""
        counts = [_seen_tokens(self._table["seen"][int(place)].as_py()) for place in self._places]
        return np.array(counts, dtype=np.int64)

    @property
    def sources(self) -> Numbers:
        """The kept row that each comes from."""
        found: Numbers = self._table["source"].to_numpy().astype(np.int64)[self._places]
        return found

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max(initial=0))

    def select(self, places: Numbers) -> TokenStore:
        """The rows at places of this store, in this order."""
        return TokenStore(self._table, self._places[places])


def _batch(rows: Sequence[StoredRow]) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array([one.row.input_ids for one in rows], pa.list_(pa.int32())),
            pa.array([_stretches(one.row.labels) for one in rows], pa.list_(pa.int32())),
            pa.array([one.source for one in rows], pa.int32()),
        ],
        schema=_SCHEMA,
    )


def _stretches(labels: Sequence[int]) -> list[int]:
    """Where labels that count begin and end, one after the other."""
    seen = np.array(labels) != IGNORED
    borders = np.flatnonzero(np.diff(seen.astype(np.int8), prepend=0, append=0))
    return [int(border) for border in borders]


def _seen_tokens(seen: Sequence[int]) -> int:
    total = sum(seen[1::2]) - sum(seen[::2])
    return total - 1 if seen and seen[0] == 0 else total
