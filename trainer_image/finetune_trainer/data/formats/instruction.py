"""Format Instruction: what to do, perhaps with what, and the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import InstructionRows
from finetune_api.rules import fill
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.formats.cells import cell, optional_text, trimmed, written


def parse(row: Mapping[str, Any], rows: InstructionRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    columns = rows.columns
    instruction = written(cell(row, columns.instruction), columns.instruction)
    given, output = optional_text(row, columns.input), written(cell(row, columns.output), columns.output)
    system = optional_text(row, columns.system)
    filled_input = fill(rows.input_template, input=given) if given else ""
    prompt = trimmed(fill(rows.prompt_template, instruction=instruction, input=filled_input))
    response = trimmed(fill(rows.response_template, output=output))
    turns = (Message("user", prompt), Message(ASSISTANT, response))
    return Example(
        messages=(Message("system", system), *turns) if system else turns,
        # With the input: rows that do the same with different things ask different things.
        question=f"{instruction}\n{given}" if given else instruction,
        sha256=sha256_of([system, instruction, given, output]),
    )
