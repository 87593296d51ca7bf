"""Cells of a raw row: taken out, checked, normalised, and named in the error when they are wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from finetune_api.base import cut
from finetune_api.row_formats import ColumnsSpec
from finetune_trainer.data.example import MalformedRow
from finetune_trainer.sources.files import parse_json

_MAX_SHOWN = 60
_LINE_BREAKS = re.compile(r"\r\n?|[\v\f]")
# C0 but tab and line feed, DEL, C1, and halves of surrogate pairs, which JSON can hold.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORD = re.compile(r"[A-Za-z0-9]+")
_LONGEST_WORD = 32
_LONGEST_ID = 256


class CellError(ValueError):
    """What is wrong with a cell, with its column."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"column {column!r}: {problem}")


def refused(where: str, error: ValueError) -> MalformedRow:
    """The error of a cell with the row's place."""
    return MalformedRow(f"{where}: {error}")


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


def clean(text: str, column: str, what: str = "") -> str:
    """A text with line feeds for line breaks of other kinds and without a byte order mark.

    Raises CellError for control characters and for half a surrogate pair, which no text holds.
    """
    text = _LINE_BREAKS.sub("\n", text.removeprefix("\ufeff"))
    if found := _NO_TEXT.search(text):
        sign, place = found[0], found.start() + 1
        kind = "is no Unicode character" if "\ud800" <= sign <= "\udfff" else "is a control character"
        raise CellError(column, f"{what}{shown(sign)} at character {place} {kind}: take it out of the text")
    return text


def text_of(value: object, column: str, what: str = "") -> str:
    """A cell's value as text, without white space around it. Raises CellError for no text and for an empty one."""
    if not isinstance(value, str) or not (text := clean(value, column, what).strip()):
        raise CellError(column, f"{what}must be a text that is not empty, not {shown(value)}")
    return text


def optional_text(row: Mapping[str, Any], column: str) -> str:
    """The text of a cell that may be missing, null or empty; then "". Raises CellError for what is no text."""
    value = row.get(column)
    return "" if value is None or (isinstance(value, str) and not value.strip()) else text_of(value, column)


def decoded(value: object, column: str) -> object:
    """The value of a cell that holds a map or a list, which a CSV file writes as JSON. Raises CellError."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except (ValueError, RecursionError) as error:
        raise CellError(column, f"{shown(value)} is no JSON map or list: {error}") from error


def provenance_of(row: Mapping[str, Any], columns: ColumnsSpec, default: str | None) -> str | None:
    """Where a row comes from, as one CamelCase word: its own cell, else the dataset's. Raises CellError for no word."""
    text = optional_text(row, columns.provenance) if columns.provenance else ""
    if not text:
        return default
    word = "".join(part[0].upper() + part[1:] for part in _WORD.findall(text))
    if not word or not word[0].isalpha() or len(word) > _LONGEST_WORD:
        assert columns.provenance
        raise CellError(columns.provenance, f"must be a word such as Human, not {shown(text)}")
    return word


def id_of(row: Mapping[str, Any], columns: ColumnsSpec) -> str | None:
    """The row's own name; None where the dataset names no column for it. Raises CellError."""
    if columns.id is None:
        return None
    value = cell(row, columns.id)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return cut(text_of(text, columns.id), _LONGEST_ID)


def shown(value: object) -> str:
    """A value as it stands in an error."""
    return cut(repr(value), _MAX_SHOWN)
