"""``spec.evaluation.slices``: parts of the held-out rows, and rows of edge cases beside them, scored by themselves."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from finetune_api.base import ApiModel
from finetune_api.held_out import EvaluationDatasetSpec, HeldOut
from finetune_api.row_formats import Name
from finetune_api.rules import rule, validations

MAX_SLICES = 8
SLICE_TWICE = "two slices have one name"
_EITHER = "a slice needs either column or dataset"
# A label of DNS: behind it stands '=' and a value, where a column makes the slices.
SliceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class SliceSpec(ApiModel):
    """Rows that are also scored by themselves."""

    model_config = {"json_schema_extra": validations(rule("has(self.column) != has(self.dataset)", _EITHER))}

    name: SliceName = Field(description="What it is called in status, report and gates.")
    column: Name | None = Field(
        default=None,
        description="A column of the held-out rows: each of its values is a slice, called <name>=<value>; of more than "
        "16 values the most frequent ones, and the others together. Either this or dataset.",
    )
    dataset: EvaluationDatasetSpec | None = Field(
        default=None,
        description="Rows of their own, such as edge cases, that are scored beside the held-out rows. Either this or "
        "column.",
    )

    @model_validator(mode="after")
    def _check_either(self) -> Self:
        if (self.column is None) == (self.dataset is None):
            raise ValueError(_EITHER)
        return self


class ResolvedSlice(SliceSpec):
    """A slice with the shape of its rows filled in."""

    dataset: HeldOut | None = None
