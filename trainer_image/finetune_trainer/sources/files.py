"""Rows of one file: the same reading for files on a claim and on the hub, in which text stays text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

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
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}") from error


def _read_jsonl(path: Path, name: str) -> RawRows:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parse_json(line, f"{name} row {number}")


def _read_json(path: Path, name: str) -> RawRows:
    """A list of rows, or a row per line, as many .json files on the hub have it."""
    with path.open(encoding="utf-8-sig") as file:
        text = file.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise StageError(Reason.DATASET_INVALID, f"{name} is no JSON: {error}") from error
        yield from _read_jsonl(path, name)
        return
    except (ValueError, RecursionError) as error:
        raise StageError(Reason.DATASET_INVALID, f"{name} is no JSON: {error}") from error
    if not isinstance(rows, list):
        raise StageError(Reason.DATASET_INVALID, f"{name} must hold a list of rows, or a row per line")
    yield from enumerate(rows, start=1)


def _parse_json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StageError(Reason.DATASET_INVALID, f"{where} is no JSON: {error}") from error


def _read_csv(path: Path, name: str) -> RawRows:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number, cells in enumerate(csv.DictReader(lines, strict=True), start=1):
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
