"""What a row holds in columns that nobody is asked about, such as its topic: told apart and named, whatever it is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_api.base import cut
from finetune_trainer.data.example import Label

LONGEST_LABEL = 56


def labels_of(row: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Label | None]:
    """The label of each column; None for what is missing, null, blank, or no number (NaN, Parquet's gap).

    A list or an object is one value. Raises ValueError or RecursionError for a value that JSON can't hold.
    """
    return {column: label_of(row.get(column)) for column in columns}


def label_of(value: object) -> Label | None:
    """The label of one cell. Texts, numbers and truth values are told apart, though their names may be the same."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and not value.strip():
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    # ASCII, since half a surrogate pair can't be encoded.
    key = json.dumps(value, sort_keys=True, default=str)
    return Label(_name(text), hashlib.sha256(key.encode()).hexdigest())


def _name(text: str) -> str:
    """A text on one line, without what would steer a terminal, cut."""
    line = " ".join(text.strip()[: 4 * LONGEST_LABEL].split())
    return cut("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line), LONGEST_LABEL)
