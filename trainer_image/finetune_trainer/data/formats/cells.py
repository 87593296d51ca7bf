"""Cells of a raw row: taken out, checked, normalised, and named in the error when they are wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_api.base import cut
from finetune_api.row_formats import ColumnsSpec
from finetune_trainer.data.example import MalformedRow
from finetune_trainer.sources.json_rows import parse_json

_MAX_SHOWN = 60
_MAX_NAMES = 300
_MAX_PROBLEM = 600
# C0 but tab and what breaks a line, DEL, C1, and halves of surrogate pairs, which JSON can hold.
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"\r\n?|[\v\f]")
_BLANK_BEGINNING = re.compile(r"\s*\n")
_BETWEEN_WORDS = re.compile(r"[\s_./-]+")
_LONGEST_WORD = 32
_LONGEST_ID = 256
# Levels of lists and objects in each other: far more than tools or their arguments have, far less than Python bears.
_DEEPEST = 64


class CellError(ValueError):
    """What is wrong with a cell, with its column."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"column {cut(column, _MAX_SHOWN)!r}: {problem}")


def refused(where: str, error: Exception) -> MalformedRow:
    """The error of a cell with the row's place."""
    problem = "holds lists or objects too deep in each other" if isinstance(error, RecursionError) else str(error)
    return MalformedRow(cut(_on_one_line(f"{where}: {problem}"), _MAX_PROBLEM))


def _on_one_line(text: str) -> str:
    """The text without what would break its line or steer a terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def row_of(raw: object) -> Mapping[str, Any]:
    """The row as an object with columns. Raises ValueError when it is none."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"must be an object with columns, not {shown(raw)}")
    return raw


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A cell that must be there. Raises CellError."""
    if column not in row:
        raise CellError(column, f"missing: {_there(row)}; name the right one in dataset.columns, or add it")
    return row[column]


def _there(row: Iterable[object]) -> str:
    """The names of a row's columns."""
    there = ", ".join(map(str, row))
    return f"the row has {cut(there, _MAX_NAMES)}" if there else "the row has no columns"


def clean(text: str, column: str, what: str = "") -> str:
    """A text with line feeds for line breaks of other kinds and without a byte order mark.

    Raises CellError for control characters and for half a surrogate pair, which no text holds.
    """
    if found := _NO_TEXT.search(text):
        code = ord(found[0])
        kind = "half of a surrogate pair" if code >= 0xD800 else "a control character"
        raise CellError(column, f"{what}character {found.start() + 1} is U+{code:04X}, {kind}: take it out of the text")
    text = text.removeprefix("\ufeff")
    has_breaks = "\r" in text or "\v" in text or "\f" in text
    return _LINE_BREAKS.sub("\n", text) if has_breaks else text


def trimmed(text: str) -> str:
    """The text without blank lines around it and white space at its end; its first line keeps its indentation."""
    text = text.rstrip()
    blank = _BLANK_BEGINNING.match(text)
    return text[blank.end() :] if blank else text


def text_of(value: object, column: str, what: str = "") -> str:
    """A cell's value as text, without white space around it. Raises CellError for no text and for an empty one."""
    return written(value, column, what).strip()


def written(value: object, column: str, what: str = "") -> str:
    """The same, :func:`trimmed` only, so that code keeps its indentation."""
    if isinstance(value, str) and (text := trimmed(clean(value, column, what))):
        return text
    raise CellError(column, f"{what}must be a text that is not empty, not {shown(value)}")


def optional_text(row: Mapping[str, Any], column: str) -> str:
    """The text of a cell that may be missing, null or empty; then "". Raises CellError for what is no text."""
    value = row.get(column)
    is_empty = value is None or (isinstance(value, str) and not trimmed(clean(value, column)))
    return "" if is_empty else written(value, column)


def present(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields that hold something: Parquet fills with null what a row doesn't have, and whole objects so."""
    return {str(name): value for name, value in fields.items() if not _is_gap(value)}


def _is_gap(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(_is_gap(one) for one in value.values())
    return value is None


def decoded(value: object, column: str, what: str = "") -> Any:
    """The value of a cell that holds a map or a list, which a CSV file writes as JSON. Raises CellError."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        problem = "too deep" if isinstance(error, RecursionError) else error
        raise CellError(column, f"{what}{shown(value)} is no JSON map or list: {problem}") from error


def json_value(value: object, column: str, what: str = "", *, keeps_null: bool = False, depth: int = 0) -> Any:
    """A value of JSON with all its texts checked; without nulls in objects, unless they were written on purpose.

    Raises CellError for what no JSON holds, such as the dates and NaN of Parquet, and for nesting without end.
    """
    if depth > _DEEPEST:
        raise CellError(column, f"{what}holds lists or objects more than {_DEEPEST} deep in each other")
    if isinstance(value, str):
        return clean(value, column, what)
    if isinstance(value, Mapping):
        return {
            clean(str(name), column, what): json_value(one, column, what, keeps_null=keeps_null, depth=depth + 1)
            for name, one in value.items()
            if keeps_null or one is not None
        }
    if isinstance(value, list):
        return [json_value(one, column, what, keeps_null=keeps_null, depth=depth + 1) for one in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise CellError(column, f"{what}holds {shown(value)}, which JSON can't: write it as text")


def provenance_of(row: Mapping[str, Any], columns: ColumnsSpec, default: str | None) -> str | None:
    """Where a row comes from, as one CamelCase word: its own cell, else the dataset's. Raises CellError for no word."""
    text = optional_text(row, columns.provenance).strip() if columns.provenance else ""
    if not text:
        return default
    parts = [part for part in _BETWEEN_WORDS.split(text) if part]
    word = "".join(part[0].upper() + part[1:] for part in parts)
    if not (word.isascii() and word.isalnum() and word[0].isalpha() and len(word) <= _LONGEST_WORD):
        assert columns.provenance
        problem = f"must be a word of at most {_LONGEST_WORD} letters and digits, such as Human, not {shown(text)}"
        raise CellError(columns.provenance, problem)
    return word


def id_of(row: Mapping[str, Any], columns: ColumnsSpec) -> str | None:
    """The row's own name; None where the dataset names no column for it. Raises CellError."""
    if columns.id is None:
        return None
    value = cell(row, columns.id)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return cut(text_of(str(value) if is_number else value, columns.id), _LONGEST_ID)


def shown(value: object) -> str:
    """A value as it stands in an error."""
    try:
        return cut(repr(value), _MAX_SHOWN)
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists in lists in lists
        return f"a {type(value).__name__}"
