"""Rows that are not trained on but scored: those of the evaluation, and validation rows with a source."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.row_formats import (
    ChatRows,
    InstructionRows,
    MultipleChoiceRows,
    TextRows,
)
from finetune_api.rows import RowsSpec, Split


class EvaluationDatasetSpec(RowsSpec):
    """Held-out rows, in the format, columns and templates of spec.dataset unless it names a format."""

    split: Split = Field(default="test", description="Split to evaluate on.")


# Resolved: what a user may leave out is there, by format.


class MultipleChoiceHeldOut(MultipleChoiceRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format MultipleChoice."""


class ChatHeldOut(ChatRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Chat."""


class InstructionHeldOut(InstructionRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Instruction."""


class TextHeldOut(TextRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Text."""


HeldOut = Annotated[
    MultipleChoiceHeldOut | ChatHeldOut | InstructionHeldOut | TextHeldOut, Field(discriminator="format")
]
