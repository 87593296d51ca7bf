"""Format Instruction: what to do, perhaps with what, and the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import InstructionRows
from finetune_api.rules import fill
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.formats.cells import CellError, cell, optional_text, shown, trimmed, written

_HISTORY = "history"  # LLaMA-Factory's column of earlier turns


def parse(row: Mapping[str, Any], rows: InstructionRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    columns = rows.columns
    instruction = written(cell(row, columns.instruction), columns.instruction)
    given, output = optional_text(row, columns.input), written(cell(row, columns.output), columns.output)
    system, history = optional_text(row, columns.system), _history(row.get(_HISTORY))
    filled_input = fill(rows.input_template, input=given) if given else ""
    prompt = trimmed(fill(rows.prompt_template, instruction=instruction, input=filled_input))
    response = trimmed(fill(rows.response_template, output=output))
    earlier = [Message(role, text) for turns in history for role, text in zip(("user", ASSISTANT), turns, strict=True)]
    before = [Message("system", system), *earlier] if system else earlier
    # With the input: rows that do the same with different things ask different things.
    asked = [*(question for question, _ in history), instruction, given]
    return Example(
        messages=(*before, Message("user", prompt), Message(ASSISTANT, response)),
        question="\n".join(filter(None, asked)),
        sha256=sha256_of([system, history, instruction, given, output]),
    )


def _history(value: object) -> list[tuple[str, str]]:
    """Earlier turns: what was asked, and the answer. A column of that name may as well hold something else."""
    if not isinstance(value, list):
        return []
    return [_pair(pair, f"turn {number} ") for number, pair in enumerate(value, start=1)]


def _pair(pair: object, what: str) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise CellError(_HISTORY, f"{what}must be a list of an instruction and its response, not {shown(pair)}")
    return written(pair[0], _HISTORY, what), written(pair[1], _HISTORY, what)
