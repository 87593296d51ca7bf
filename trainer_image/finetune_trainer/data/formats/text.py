"""Format Text: plain documents, outside of any conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import TextRows
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats.cells import cell, clean, written


def parse(row: Mapping[str, Any], rows: TextRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    column = rows.columns.text
    value = cell(row, column)
    written(value, column)
    text = clean(value, column)  # white space and all: a row may be a piece of a longer text
    return Example(text=text, ends=rows.end_of_text == "Append", question=text, sha256=sha256_of([text]))
