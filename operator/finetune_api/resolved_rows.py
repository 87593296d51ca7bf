"""Rows with all filled in that a user may leave out, by format."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from finetune_api.dataset import (
    MAIN,
    REPLAY,
    DatasetSpec,
    EvaluationDatasetSpec,
    MixtureSpec,
    ReplaySpec,
    ValidationSpec,
)
from finetune_api.row_filters import FiltersSpec
from finetune_api.row_formats import ChatRows, InstructionRows, MultipleChoiceRows, TextRows

# Resolved: what a user may leave out is there, by format. Each stands for one place in a spec.


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


class MultipleChoiceReplay(MultipleChoiceRows, ReplaySpec):
    """spec.dataset.replay with MultipleChoice rows."""


class ChatReplay(ChatRows, ReplaySpec):
    """spec.dataset.replay with Chat rows."""


class InstructionReplay(InstructionRows, ReplaySpec):
    """spec.dataset.replay with Instruction rows."""


class TextReplay(TextRows, ReplaySpec):
    """spec.dataset.replay with Text rows."""


Replay = Annotated[MultipleChoiceReplay | ChatReplay | InstructionReplay | TextReplay, Field(discriminator="format")]


class _ResolvedDataset(DatasetSpec):
    replay: Replay | None = None
    mixture: list[Mixture] = []  # type: ignore[assignment]
    filters: FiltersSpec = FiltersSpec()
    packing: Literal["Auto", "Enabled", "Disabled"] = "Auto"


class MultipleChoiceDataset(MultipleChoiceRows, _ResolvedDataset):
    """spec.dataset of format MultipleChoice."""


class ChatDataset(ChatRows, _ResolvedDataset):
    """spec.dataset of format Chat."""


class InstructionDataset(InstructionRows, _ResolvedDataset):
    """spec.dataset of format Instruction."""


class TextDataset(TextRows, _ResolvedDataset):
    """spec.dataset of format Text."""


Dataset = Annotated[
    MultipleChoiceDataset | ChatDataset | InstructionDataset | TextDataset, Field(discriminator="format")
]


def datasets_of(dataset: Dataset) -> dict[str, Dataset | Mixture | Replay]:
    """All datasets that are trained on, by name, in order: spec.dataset's own rows, its mixture's, and its replay's."""
    found: dict[str, Dataset | Mixture | Replay] = {MAIN: dataset, **{one.name: one for one in dataset.mixture}}
    return {**found, REPLAY: dataset.replay} if dataset.replay else found


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

_HELD_OUT: TypeAdapter[HeldOut] = TypeAdapter(HeldOut)


def held_out_of(validation: ValidationSpec) -> HeldOut | None:
    """The rows of a validation that has a source of its own, in the resolved shape; None for a share of the rows."""
    if validation.source is None:
        return None
    return _HELD_OUT.validate_python(validation.to_api())
