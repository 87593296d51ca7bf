"""``spec.dataset.mixture``: further rows to train on, each dataset under a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from finetune_api.row_formats import (
    ChatRows,
    InstructionRows,
    MultipleChoiceRows,
    TextRows,
)
from finetune_api.rows import TrainingRowsSpec
from finetune_api.rules import TextRule, rule

# What the rows of spec.dataset itself are called beside those of its mixture.
MAIN = "dataset"
MAX_MIXTURE = 8


@dataclass(frozen=True)
class _NotMain(TextRule):
    """A name other than that of the rows of spec.dataset itself."""

    def check(self, text: str) -> str:
        if text == MAIN:
            raise ValueError(_MAIN_TAKEN)
        return text

    def cel(self) -> dict[str, str]:
        return rule(f"self != '{MAIN}'", _MAIN_TAKEN)


_MAIN_TAKEN = f"'{MAIN}' is what the rows of spec.dataset itself are called: choose another name"
MixtureName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), _NotMain()]


class MixtureSpec(TrainingRowsSpec):
    """Further rows to train on, from a source of their own."""

    name: MixtureName = Field(description="What the rows are called in status and messages.")


# Resolved: what a user may leave out is there, by format.


class MultipleChoiceMixture(MultipleChoiceRows, MixtureSpec):
    """A dataset of the mixture with MultipleChoice rows."""


class ChatMixture(ChatRows, MixtureSpec):
    """A dataset of the mixture with Chat rows."""


class InstructionMixture(InstructionRows, MixtureSpec):
    """A dataset of the mixture with Instruction rows."""


class TextMixture(TextRows, MixtureSpec):
    """A dataset of the mixture with Text rows."""


Mixture = Annotated[
    MultipleChoiceMixture | ChatMixture | InstructionMixture | TextMixture, Field(discriminator="format")
]
