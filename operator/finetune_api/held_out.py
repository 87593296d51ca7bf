"""Rows that are not trained on but scored: those of the evaluation, and validation rows with a source."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from finetune_api.row_formats import (
    ChatRows,
    FormatName,
    InstructionRows,
    MultipleChoiceRows,
    TextRows,
    check_format_fields,
    format_rules,
)
from finetune_api.rows import OPTIONAL_FORMAT, RowsSpec, Split
from finetune_api.rules import validations


class EvaluationDatasetSpec(RowsSpec):
    """Held-out rows, in the format, columns and templates of spec.dataset unless it names a format."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    split: Split = Field(default="test", description="Split to evaluate on.")
    format: FormatName | None = Field(default=None, description=OPTIONAL_FORMAT)

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


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
