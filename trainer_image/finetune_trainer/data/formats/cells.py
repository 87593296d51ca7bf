"""Cells of a raw row: taken out, checked, and named in the error when they are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.sources.files import parse_json
from finetune_trainer.stage.failure import StageError

_MAX_SHOWN = 60


class CellError(ValueError):
    """What is wrong with a cell, with its column."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"column {column!r}: {problem}")


def refused(where: str, error: ValueError) -> StageError:
    """DatasetInvalid, with the row's place."""
    return StageError(Reason.DATASET_INVALID, f"{where}: {error}")


def row_of(raw: object) -> Mapping[str, Any]:
    """The row as an object with columns. Raises ValueError when it is none."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"must be an object with columns, not {shown(raw)}")
    return raw


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A cell that must be there. Raises CellError."""
    if column not in row:
        raise CellError(column, f"missing; the row has {cut(', '.join(map(str, row)) or 'no columns', 300)}")
    return row[column]


def text_of(value: object, column: str, what: str = "") -> str:
    """A cell's value as text, without white space around it. Raises CellError for no text and for an empty one."""
    if not isinstance(value, str) or not value.strip():
        raise CellError(column, f"{what}must be a text that is not empty, not {shown(value)}")
    try:  # JSON can hold half of a surrogate pair
        value.encode()
    except UnicodeEncodeError as error:
        place = f"{shown(value[error.start])} at character {error.start + 1}"
        raise CellError(column, f"{place} is no Unicode character") from error
    return value.strip()


def decoded(value: object, column: str) -> object:
    """The value of a cell that holds a map or a list, which a CSV file writes as JSON. Raises CellError."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except (ValueError, RecursionError) as error:
        raise CellError(column, f"{shown(value)} is no JSON map or list: {error}") from error


def shown(value: object) -> str:
    """A value as it stands in an error."""
    return cut(repr(value), _MAX_SHOWN)
