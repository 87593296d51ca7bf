"""Rows of one file: the same reading for files on a claim and on the hub, in which text stays text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import PASSING, StageError

RawRows = Iterator[tuple[int, object]]  # (row number from 1, raw row); of a .jsonl file the number is the line's
EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")
# The csv module's own limit is 131,072 characters. What is too long to train on is dropped later, and counted.
_LONGEST_CELL = 2**31 - 1


def read_file(path: Path, name: str, extension: str) -> RawRows:
    """Yields the rows of a file; ``name`` is the file's, for messages.

    Raises StageError (DatasetInvalid) for what can't be read.
    """
    try:
        yield from _READERS[extension](path, name)
    except UnicodeDecodeError as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}", "save the file as UTF-8") from error
    except (OSError, csv.Error) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}") from error


def _read_jsonl(path: Path, name: str) -> RawRows:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, parse_json(line)
                except (ValueError, RecursionError) as error:
                    raise StageError(Reason.DATASET_INVALID, f"{name} row {number} is no JSON: {error}") from error


def _read_json(path: Path, name: str) -> RawRows:
    """A list of rows, or a row per line, as many .json files on the hub have it."""
    with path.open(encoding="utf-8-sig") as file:
        text = file.read()
    try:
        rows = parse_json(text)
    except (ValueError, RecursionError) as error:
        if not (isinstance(error, json.JSONDecodeError) and error.msg.startswith("Extra data")):
            raise StageError(Reason.DATASET_INVALID, f"{name} is no JSON: {error}") from error
        yield from _read_jsonl(path, name)
        return
    if isinstance(rows, dict):  # the only line
        rows = [rows]
    if not isinstance(rows, list):
        raise StageError(Reason.DATASET_INVALID, f"{name} must hold a list of rows, or a row per line")
    yield from enumerate(rows, start=1)


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError or RecursionError for none, and for a name that stands twice."""
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ: of two options of one letter the parser would keep the last, without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def _read_csv(path: Path, name: str) -> RawRows:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        header = [column for column in reader.fieldnames or () if column]
        if twice := next((column for column in header if header.count(column) > 1), None):
            raise StageError(Reason.DATASET_INVALID, f"{name}: column {twice!r} stands twice in the header")
        for number, cells in enumerate(reader, start=1):
            if any(cells.pop(None, [])):  # DictReader's key for what has no header
                problem = "has more cells than the header has columns: put text that holds a comma in quotes"
                raise StageError(Reason.DATASET_INVALID, f"{name} row {number} {problem}")
            # A row with too few cells lacks its last columns, and the row check says so.
            yield number, {column: cell for column, cell in cells.items() if cell is not None}


def _read_parquet(path: Path, name: str) -> RawRows:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1)
    except pyarrow.ArrowException as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}") from error


_READERS: dict[str, Callable[[Path, str], RawRows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
