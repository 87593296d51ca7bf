"""Reads the rows of a dataset from files on a claim or from the hub, and checks each of them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.base import canonical_json
from finetune_api.config import RunConfig
from finetune_api.inputs import ColumnsSpec, DatasetSpec, EvaluationDatasetSpec
from finetune_api.reasons import Reason
from finetune_api.uris import ClaimPath, HubSource, parse_source
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, parse_row
from finetune_trainer.sources.hub import dataset_rows
from finetune_trainer.stage.failure import StageError

EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Rows:
    """The rows of one split and the digest of their text."""

    rows: list[ChoiceRow]
    sha256: str
    name: str


def load_rows(
    config: RunConfig, source: DatasetSpec | EvaluationDatasetSpec, revision: str, columns: ColumnsSpec
) -> Rows:
    """Reads and checks all rows.

    ``revision`` is the resolved commit of a hub dataset. Raises StageError: DatasetNotFound for a source that isn't
    there, DatasetInvalid for the first bad row.
    """
    location = parse_source(source.source)
    if isinstance(location, HubSource):
        name, raw_rows = f"{source.source} {source.split}", dataset_rows(location, revision, source.split)
    else:
        path = _find_file(config, location, source.split)
        name, raw_rows = path.name, _read_file(path)
    digest, rows = hashlib.sha256(), []
    for number, raw in raw_rows:
        row = parse_row(raw, columns, f"{name} row {number}")
        rows.append(row)
        digest.update(canonical_json([row.question, row.options, row.letter]).encode() + b"\n")
    if not rows:
        raise StageError(Reason.DATASET_INVALID, f"{name} has no rows")
    return Rows(rows, digest.hexdigest(), name)


def _find_file(config: RunConfig, location: ClaimPath, split: str) -> Path:
    try:
        path = config.local_path(location)
    except ValueError as error:
        raise StageError(Reason.DATASET_NOT_FOUND, f"{location}: {error}") from error
    if path.is_dir():
        candidates = [path / f"{split}{extension}" for extension in EXTENSIONS]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if len(found) != 1:
            problem = "more than one of" if found else "none of"
            names = ", ".join(candidate.name for candidate in candidates)
            raise StageError(Reason.DATASET_NOT_FOUND, f"{location} is a folder with {problem} {names}")
        return found[0]
    if not path.is_file():
        raise StageError(Reason.DATASET_NOT_FOUND, f"{location} is not there{_neighbours(path)}")
    if path.suffix not in EXTENSIONS:
        raise StageError(Reason.DATASET_INVALID, f"{location} must end in one of {', '.join(EXTENSIONS)}")
    return path


def _neighbours(path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.is_dir())
    names = sorted(entry.name for entry in parent.iterdir())[:8]
    return f"; {parent} holds {', '.join(names) or 'nothing'}"


def _read_file(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (row number from 1, raw row). Of a .jsonl file the number is the line's."""
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    try:
        yield from readers[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {path.name}: {error}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parse_json(line, f"{path.name} row {number}")


def _read_json(path: Path) -> Iterator[tuple[int, Any]]:
    rows = _parse_json(path.read_text(encoding="utf-8"), path.name)
    if not isinstance(rows, list):
        raise StageError(Reason.DATASET_INVALID, f"{path.name} must hold a list of rows")
    yield from enumerate(rows, start=1)


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StageError(Reason.DATASET_INVALID, f"{where} is no JSON: {error}") from error


def _read_csv(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        # A row with too few cells lacks its last columns, and the row check says so.
        reader = csv.DictReader(lines, strict=True)
        yield from ((number, _present(cells)) for number, cells in enumerate(reader, start=1))


def _present(cells: dict[str | Any, Any]) -> dict[str, Any]:
    return {column: cell for column, cell in cells.items() if column is not None and cell is not None}


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1)
    except pyarrow.ArrowException as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {path.name}: {error}") from error
