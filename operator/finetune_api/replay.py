"""``spec.dataset.replay``: rows of a general dataset, against forgetting."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.row_formats import (
    ChatRows,
    InstructionRows,
    MultipleChoiceRows,
    TextRows,
)
from finetune_api.rows import ReadRowsSpec
from finetune_api.rules import Decimal, Within

# What its rows are called beside those of spec.dataset and its mixture.
REPLAY = "replay"


class ReplaySpec(ReadRowsSpec):
    """Rows of a general dataset that are mixed in against forgetting."""

    fraction: Annotated[Decimal, Within(0, 0.9)] = Field(
        default="0.1",
        description="Share of these rows among all examples that are trained on; as many as there are, if these are "
        'fewer. "0": none is trained on, but elasticWeightConsolidation reads them.',
    )


# Resolved: what a user may leave out is there, by format.


class MultipleChoiceReplay(MultipleChoiceRows, ReplaySpec):
    """spec.dataset.replay with MultipleChoice rows."""


class ChatReplay(ChatRows, ReplaySpec):
    """spec.dataset.replay with Chat rows."""


class InstructionReplay(InstructionRows, ReplaySpec):
    """spec.dataset.replay with Instruction rows."""


class TextReplay(TextRows, ReplaySpec):
    """spec.dataset.replay with Text rows."""


Replay = Annotated[MultipleChoiceReplay | ChatReplay | InstructionReplay | TextReplay, Field(discriminator="format")]
