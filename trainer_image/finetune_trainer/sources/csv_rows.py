"""Rows of CSV files: cells stay text, and a row that can't be read ends no file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from finetune_api.reasons import Reason
from finetune_trainer.sources.raw_rows import (
    LONGEST_ROW,
    SAVE_AS_UTF8,
    TOO_LONG,
    RawRows,
    UnreadableRow,
    check_columns,
)
from finetune_trainer.stage.failure import StageError

# What bytes that are no UTF-8 are decoded to.
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_TOO_MANY = "has more cells than the header has columns: put text that holds a comma in quotes"


def read_csv(stream: BinaryIO, name: str) -> RawRows:
    """Rows by the columns that the first line names.

    A row with too few cells lacks its last columns, one with too many is an :class:`UnreadableRow`. Raises StageError
    (DatasetInvalid) for a header that can't be used, and for a cell or a line without an end.
    """
    csv.field_size_limit(LONGEST_ROW)
    lines = _Lines(stream, name)
    rows = _rows(lines)
    header = next((row for row in rows if row), [])
    if isinstance(header, str):
        raise StageError(Reason.DATASET_INVALID, f"{name}: the header {header}")
    check_columns([column for column in header if column], name)
    number = 0
    for row in rows:
        if isinstance(row, str):
            # Lines that a stray quote ran together. Each counts, so that it can't hide half of a file.
            for _ in range(lines.taken):
                number += 1
                yield number, UnreadableRow(row)
        elif row:
            number += 1
            yield number, UnreadableRow(_TOO_MANY) if any(row[len(header) :]) else _cells(header, row)


def _cells(header: list[str], row: list[str]) -> dict[str, str]:
    return {column: cell for column, cell in zip(header, row, strict=False) if column}


class _Lines:
    """The lines of a file for the csv module, counted from row to row."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self.name = name
        self.number = 0
        self.taken = 0  # by the row at hand
        self.bad = ""  # what of them is no UTF-8

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST_ROW + 1):
            self.number += 1
            self.taken += 1
            if len(line) > LONGEST_ROW:
                raise StageError(Reason.DATASET_INVALID, f"{self.name}: line {self.number} {TOO_LONG}")
            if not line.isascii() and (found := _NO_UTF8.search(line)):
                self.bad = f"is no UTF-8 (byte 0x{ord(found[0]) - 0xDC00:x} in line {self.number}): {SAVE_AS_UTF8}"
            yield line


def _rows(lines: _Lines) -> Iterator[list[str] | str]:
    """The cells of each row, or what is wrong with it."""
    reader = csv.reader(lines, strict=True)
    while True:
        lines.taken, lines.bad = 0, ""
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            if str(error).startswith("field larger"):
                problem = f"{lines.name}: a cell that ends in line {lines.number} {TOO_LONG}"
                advice = "close the quote that it begins with"
                raise StageError(Reason.DATASET_INVALID, problem, advice) from error
            first = lines.number - lines.taken + 1
            place = f"line {first}" if lines.taken == 1 else f"lines {first} to {lines.number}"
            yield f"is no CSV: {error} ({place}): close each quote, and write one that is part of a cell twice"
            continue
        yield lines.bad or row
