"""Raw rows of any format, read as the trainer reads them."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.row_formats import ROW_FORMATS
from finetune_trainer.data.example import Example, MalformedRow
from finetune_trainer.data.formats import parse_row

PLACE = "train.jsonl row 7"


def read(name: str, raw: object, **fields: Any) -> Example:
    """The row in a format, with its templates and ``columns``."""
    return parse_row(raw, ROW_FORMATS[name].model_validate(fields), PLACE)


def problem(name: str, raw: object, **fields: Any) -> str:
    """What is said of a row that can't be used: always one line, printable, that begins with the row's place."""
    with pytest.raises(MalformedRow) as caught:
        read(name, raw, **fields)
    text = str(caught.value)
    assert text.startswith(f"{PLACE}: ")
    assert text.isprintable()
    assert len(text) < 600
    return text.removeprefix(f"{PLACE}: ")
