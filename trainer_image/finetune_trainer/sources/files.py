"""Rows of one file: the same reading for files on a claim, in a bucket and on the hub, in which text stays text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import PASSING, StageError

EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")
GZIP = ".gz"
# The csv module's own limit is 131,072 characters. What is too long to train on is dropped later, and counted.
_LONGEST_CELL = 2**31 - 1
# A list of rows is read whole; rows by lines are not.
LARGEST_JSON = 512 * 1024**2
_PARQUET_ROWS = 1000


@dataclass(frozen=True)
class UnreadableRow:
    """Stands in the place of a row that can't be read, though those after it can."""

    problem: str


RawRows = Iterator[tuple[int, object]]  # (row number from 1, raw row); of a .jsonl file the number is the line's


@dataclass(frozen=True)
class RowFile:
    """A file of rows, wherever it lies."""

    name: str  # for messages
    open: Callable[[], BinaryIO]
    extension: str  # one of EXTENSIONS
    is_compressed: bool = False


def kind_of(name: str) -> tuple[str, bool] | None:
    """How to read a file by its name: (extension, whether it is compressed); None for no kind of dataset."""
    path = PurePosixPath(name)
    is_compressed = path.suffix == GZIP
    extension = PurePosixPath(path.stem).suffix if is_compressed else path.suffix
    known = extension in EXTENSIONS and not (is_compressed and extension == ".parquet")
    return (extension, is_compressed) if known else None


def local_file(path: Path, name: str, extension: str, is_compressed: bool = False) -> RowFile:
    """A file in a folder of this pod."""
    return RowFile(name, lambda: cast(BinaryIO, path.open("rb")), extension, is_compressed)


def read_file(file: RowFile) -> RawRows:
    """Yields the rows of a file, in bounded memory but for a list of rows in JSON.

    A line that can't be read is an :class:`UnreadableRow`. Raises StageError (DatasetInvalid) for a file that can't be
    read further.
    """
    with _told(file.name), file.open() as stream:
        source = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if file.is_compressed else stream
        yield from _READERS[file.extension](source, file.name)


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}", "save the file as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        advice = "compress the file again"
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}", advice) from error
    except (OSError, csv.Error) as error:
        if isinstance(error, OSError) and (error.errno in PASSING or error.errno is None):
            raise
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}") from error


def _read_jsonl(stream: BinaryIO, name: str) -> RawRows:
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            yield number, parse_json(line.decode())
        except UnicodeDecodeError as error:
            yield number, UnreadableRow(f"is no UTF-8: {error}")
        except (ValueError, RecursionError) as error:
            yield number, UnreadableRow(f"is no JSON: {error}")


def _read_json(stream: BinaryIO, name: str) -> RawRows:
    """A list of rows, or a row per line, as many .json files on the hub have it."""
    content = stream.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        problem = f"{name} holds more than {LARGEST_JSON // 1024**2} MiB of JSON, which would be read at once"
        raise StageError(Reason.DATASET_INVALID, problem, "save it as .jsonl, a row per line")
    try:
        rows = parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        if not (isinstance(error, json.JSONDecodeError) and error.msg.startswith("Extra data")):
            raise StageError(Reason.DATASET_INVALID, f"{name} is no JSON: {error}") from error
        yield from _read_jsonl(io.BytesIO(content), name)
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
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"{cut(repr(names.most_common(1)[0][0]), 60)} stands twice in one object")
    return found


def _read_csv(stream: BinaryIO, name: str) -> RawRows:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    header = [column for column in reader.fieldnames or () if column]
    if twice := next((column for column in header if header.count(column) > 1), None):
        raise StageError(Reason.DATASET_INVALID, f"{name}: column {twice!r} stands twice in the header")
    for number, cells in enumerate(reader, start=1):
        if any(cells.pop(None, [])):  # DictReader's key for what has no header
            problem = "has more cells than the header has columns: put text that holds a comma in quotes"
            yield number, UnreadableRow(problem)
            continue
        # A row with too few cells lacks its last columns, and the row check says so.
        yield number, {column: cell for column, cell in cells.items() if cell is not None}


def _read_parquet(stream: BinaryIO, name: str) -> RawRows:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=_PARQUET_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pyarrow.ArrowException as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}") from error


_READERS: dict[str, Callable[[BinaryIO, str], RawRows]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
