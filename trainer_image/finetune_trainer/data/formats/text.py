"""Format Text: plain documents, outside of any conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import TextRows
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats.cells import CellError, cell, clean, shown


def parse(row: Mapping[str, Any], rows: TextRows) -> Example:
    """A row as an Example, its white space as it is. Raises ValueError that names the column."""
    column = rows.columns.text
    value = cell(row, column)
    if not isinstance(value, str) or not value.strip():
        raise CellError(column, f"must be a text that is not empty, not {shown(value)}")
    text = clean(value, column)
    return Example(text=text, ends=rows.end_of_text == "Append", question=text, sha256=sha256_of([text]))
