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
        ("source", pa.int32()),
        ("provenance", pa.int32()),
        ("answer", pa.int32()),
    ]
)
_BATCH = 1000
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Origin:
    """What is kept of a row beside its tokens: numbers, whose meaning stands elsewhere."""

    source: int = 0  # the row that tokens come from, counted over all that were kept
    provenance: int = 0
    answer: int = 0


class TokenWriter:
    """Writes rows to a file. Use it as a context."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, _SCHEMA)
        self._rows: list[tuple[TokenRow, Origin]] = []

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._file.close()
        self._sink.close()

    def write(self, rows: Iterable[TokenRow], origin: Origin) -> None:
        """Adds the rows of one kept row."""
        self._rows += [(row, origin) for row in rows]
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_batch(_batch(self._rows))
            self._rows = []


class TokenStore(Sequence[TokenRow]):
    """Rows in a table, of which those at ``places`` are meant, in this order."""

    def __init__(self, table: pa.Table, places: Numbers | None = None) -> None:
        self._table = table
        self._places = np.arange(table.num_rows) if places is None else places

    @classmethod
    def open(cls, path: Path) -> TokenStore:
        """The rows of a file, mapped into memory."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenStore:
        """Rows in memory."""
        stored = [(row, Origin(number)) for number, row in enumerate(rows)]
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
        return self._chosen([np.diff(_offsets(chunk)) for chunk in self._table["input_ids"].chunks])

    @property
    def response_lengths(self) -> Numbers:
        """Tokens of each row that count in the loss; the first of a row has nothing before it and does not."""
        return self._chosen([_seen_tokens(chunk) for chunk in self._table["seen"].chunks])

    @property
    def sources(self) -> Numbers:
        """The kept row that each comes from."""
        return self._column("source")

    @property
    def provenances(self) -> Numbers:
        """The number that stands for where each comes from."""
        return self._column("provenance")

    @property
    def answers(self) -> Numbers:
        """The number that stands for what each answers."""
        return self._column("answer")

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max(initial=0))

    def select(self, places: Numbers) -> TokenStore:
        """The rows at places of this store, in this order."""
        return TokenStore(self._table, self._places[places])

    def _column(self, name: str) -> Numbers:
        return self._chosen([_values(chunk) for chunk in self._table[name].chunks])

    def _chosen(self, parts: Sequence[Any]) -> Numbers:
        found: Numbers = np.concatenate(parts or [np.zeros(0, np.int64)]).astype(np.int64)[self._places]
        return found


def _batch(rows: Sequence[tuple[TokenRow, Origin]]) -> pa.RecordBatch:
    origins = [origin for _, origin in rows]
    return pa.record_batch(
        [
            _lists([np.array(row.input_ids, np.int32) for row, _ in rows]),
            _lists([_stretches(row.labels) for row, _ in rows]),
            _numbers(np.array([origin.source for origin in origins], np.int32)),
            _numbers(np.array([origin.provenance for origin in origins], np.int32)),
            _numbers(np.array([origin.answer for origin in origins], np.int32)),
        ],
        schema=_SCHEMA,
    )


def _lists(lists: Sequence[Any]) -> pa.Array:
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    return pa.ListArray.from_arrays(_numbers(offsets), _numbers(np.concatenate(lists)))


def _numbers(values: Any) -> pa.Array:
    """An Arrow array over numbers of 32 bit. pa.array() would import pandas, which takes seconds."""
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _stretches(labels: Sequence[int]) -> Any:
    """Where labels that count begin and end, one after the other."""
    seen = np.zeros(len(labels) + 2, np.int8)
    seen[1:-1] = np.array(labels, np.int32) != IGNORED
    return np.flatnonzero(np.diff(seen)).astype(np.int32)


def _values(array: Any) -> Any:
    """The numbers of an Arrow array. Its to_numpy() would import pandas."""
    return np.frombuffer(array.buffers()[1], np.int32, array.offset + len(array))[array.offset :]


def _offsets(lists: Any) -> Any:
    """Where the lists of an Arrow array begin among its values, and where the last ends."""
    return np.frombuffer(lists.buffers()[1], np.int32, lists.offset + len(lists) + 1)[lists.offset :]


def _seen_tokens(seen: Any) -> Numbers:
    """Tokens that count, of each row of an Arrow list array of stretches."""
    offsets, borders = _offsets(seen), _values(seen.values).astype(np.int64)
    # Each row has an even number of borders: begins count down, ends count up.
    signed = np.where(np.arange(len(borders)) % 2 == 0, -borders, borders)
    totals = np.concatenate([[0], np.cumsum(signed)])
    counts: Numbers = totals[offsets[1:]] - totals[offsets[:-1]]
    starts_at_once = np.zeros(len(counts), np.int64)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    starts_at_once[filled] = borders[offsets[:-1][filled]] == 0
    return counts - starts_at_once
