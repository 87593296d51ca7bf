"""``spec.dataset.filters``: which training rows are left out, and how many may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.rules import Decimal, Within

Share = Annotated[Decimal, Within(0, 1)]


class FiltersSpec(ApiModel):
    """What is left out of the training rows, and when the job ends for it."""

    deduplication: Literal["None", "Exact", "Near"] = Field(
        default="Near",
        description="Rows that repeat an earlier one, of any dataset of the mixture, are left out. Exact: the same but "
        "for case and white space. Near: also those that share at least 80% of their word sequences with an earlier "
        "row and answer alike (MinHash, checked). Default: Near.",
    )
    max_malformed: Share = Field(
        default="0.01",
        description="Largest share of a dataset's rows that may be malformed: without a column, with a text of "
        "another type, with turns out of order. They are left out and named; more of them end the job with "
        'DatasetInvalid. Default: "0.01".',
    )
    max_too_long: Share = Field(
        default="0.5",
        description="Largest share of a dataset's rows that may be longer than model.maxSequenceLength, or without a "
        "response for the loss. They are left out, never cut; more of them end the job with DatasetInvalid. Default: "
        '"0.5".',
    )
    max_overlap: Share = Field(
        default="0.1",
        description="Largest share of the held-out rows of the evaluation that training rows may ask, too, exactly or "
        "nearly. They stay where they are and are named; more of them end the job with DatasetInvalid. Default: "
        '"0.1".',
    )
