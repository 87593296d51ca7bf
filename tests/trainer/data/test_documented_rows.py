"""The table of docs/rows.md: each row is read, rendered and masked as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from finetune_api.row_formats import ROW_FORMATS
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.formats import parse_row
from finetune_trainer.data.tokenize import LossOn, sample_text, tokenise

PAGE = Path(__file__).parents[3] / "docs" / "rows.md"


def documented() -> list[tuple[str, str, str]]:
    """(format and settings, row, what the model reads) of the first table."""
    table = PAGE.read_text().partition("\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = []
    for line in table.splitlines():
        settings, row, reads = (cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        rows.append((settings, row, reads.replace("\\|", "|").replace("⏎", "\n")))
    return rows


def test_the_table_shows_every_format_and_every_kind_of_loss() -> None:
    shown = [settings for settings, _, _ in documented()]
    assert {settings.partition(",")[0] for settings in shown} == set(ROW_FORMATS)
    for loss_on in {*get_args(LossOn)} - {"Responses"}:  # the default
        assert any(f"lossOn: {loss_on}" in settings for settings in shown)


@pytest.mark.parametrize(("settings", "row", "reads"), documented())
def test_a_documented_row_is_read_and_masked_as_the_table_says(
    settings: str, row: str, reads: str, read_chat: Any
) -> None:
    chat: ChatFormat = read_chat("ChatML")
    name, *rest = settings.split(", ")
    fields = {field: value.strip("'") for field, value in (one.split(": ") for one in rest)}
    loss_on = cast(LossOn, fields.pop("lossOn", "Responses"))
    example = parse_row(json.loads(row), ROW_FORMATS[name].model_validate(fields), "row 1")
    (found,) = tokenise([example], chat, 4096, loss_on)
    (tokens,) = found.rows
    assert sample_text(tokens, chat) == reads
