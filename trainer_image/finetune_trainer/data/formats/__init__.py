"""How a raw row becomes an Example: one file for each ``format`` of a dataset, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune_api.row_formats import RowFormat
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats import chat, instruction, multiple_choice, text
from finetune_trainer.data.formats.cells import id_of, provenance_of, refused, row_of
from finetune_trainer.data.labels import labels_of

# What a format reads: (row, the rows of its class) → Example. Raises ValueError that names the column.
Reader = Callable[[Mapping[str, Any], Any], Example]
READERS: dict[str, Reader] = {
    "MultipleChoice": multiple_choice.parse,
    "Chat": chat.parse,
    "Instruction": instruction.parse,
    "Text": text.parse,
}
# Columns that a row may lack.
_OPTIONAL = ("answer", "input", "system", "tools", "provenance")


def optional_columns(rows: RowFormat) -> dict[str, str]:
    """Columns that the dataset names though a row may lack them, by field: one that no row has is misspelt."""
    given = {field: getattr(rows.columns, field) for field in _OPTIONAL}
    usual = type(rows.columns)()
    return {field: column for field, column in given.items() if column and column != getattr(usual, field)}


def parse_row(raw: object, rows: RowFormat, where: str, labels: Sequence[str] = ()) -> Example:
    """Turns a raw row into an Example.

    ``rows`` tells format, columns and templates; a resolved dataset of finetune_api.dataset is one. ``where`` is the
    row's place, ``labels`` are columns whose values the example carries along. Raises MalformedRow with place, column,
    problem and remedy.
    """
    try:
        row = row_of(raw)
        example = READERS[rows.format](row, rows)
        provenance = provenance_of(row, rows.columns, getattr(rows, "provenance", None))
        labelled = labels_of(row, labels)
        return replace(example, provenance=provenance, id=id_of(row, rows.columns), where=where, labels=labelled)
    except (ValueError, RecursionError) as error:
        raise refused(where, error) from error
