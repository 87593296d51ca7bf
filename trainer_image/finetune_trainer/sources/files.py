"""Rows of one file: the same reading for files on a claim, in a bucket and on the hub, in which text stays text."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from finetune_api.reasons import Reason
from finetune_trainer.sources.csv_rows import read_csv
from finetune_trainer.sources.json_rows import read_json, read_jsonl
from finetune_trainer.sources.parquet_rows import read_parquet
from finetune_trainer.sources.raw_rows import RawRows
from finetune_trainer.stage.failure import PASSING, StageError, first_line

GZIP = ".gz"
_READERS: dict[str, Callable[[BinaryIO, str], RawRows]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
EXTENSIONS = tuple(_READERS)


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

    A row that can't be read is an :class:`UnreadableRow` where those after it can. Raises StageError (DatasetInvalid)
    for a file that can't be read further, and OSError for a disk or a network that fails just now.
    """
    with _told(file.name), file.open() as stream:
        source = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if file.is_compressed else stream
        yield from _READERS[file.extension](source, file.name)


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        advice = "compress the file again"
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {first_line(error)}", advice) from error
    except OSError as error:
        if isinstance(error, (ConnectionError, TimeoutError)) or error.errno in PASSING:
            raise
        # Without a number it is Arrow's, of a damaged file.
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {first_line(error)}") from error
