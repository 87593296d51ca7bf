"""``spec.dataset``: the rows to train on, and what stands beside them.

Shapes of rows stand in row_formats.py. What follows from a format is no schema default: finetune_api.defaults fills it
in, and the classes at the end of this module, and of those of its parts, are what it gives.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finetune_api.base import FieldError
from finetune_api.filters import FiltersSpec
from finetune_api.mixture import MAIN, MAX_MIXTURE, Mixture, MixtureSpec
from finetune_api.replay import REPLAY, Replay, ReplaySpec
from finetune_api.row_formats import (
    ChatRows,
    FormatName,
    InstructionRows,
    MultipleChoiceRows,
    TextRows,
    format_rules,
)
from finetune_api.rows import FORMAT, TrainingRowsSpec
from finetune_api.rules import rule, validations
from finetune_api.validation import ValidationSpec

_REPLAY_TAKEN = "'replay' is what the rows of replay are called: choose another name"
_TWICE = "two datasets of the mixture have one name"
_OWN_WEIGHT = "a dataset of the mixture has a weight, and then spec.dataset needs one, too"
_ALL_WEIGHTS = "spec.dataset has a weight, and then each dataset of the mixture needs one, too"


class DatasetSpec(TrainingRowsSpec):
    """The training rows."""

    model_config = {
        "json_schema_extra": validations(
            *format_rules(optional=False),
            rule(
                "has(self.weight) || !has(self.mixture) || self.mixture.all(one, !has(one.weight))",
                _OWN_WEIGHT,
                ".weight",
                "FieldValueRequired",
            ),
            rule(
                "!has(self.weight) || !has(self.mixture) || self.mixture.all(one, has(one.weight))",
                _ALL_WEIGHTS,
                ".mixture",
            ),
            rule(
                "!has(self.replay) || !has(self.mixture) || self.mixture.all(one, one.name != 'replay')",
                _REPLAY_TAKEN,
                ".mixture",
            ),
        )
    }

    format: FormatName = Field(default="MultipleChoice", description=FORMAT)
    mixture: list[MixtureSpec] | None = Field(
        default=None,
        max_length=MAX_MIXTURE,
        description="Further datasets that are trained on together with these rows: all of their rows, or shares by "
        "weight. Each has a source, and perhaps a format, columns, templates and a provenance of its own. The order of "
        "all rows is decided by training.seed alone. Filters look at all datasets together.",
        # No map by name: those are equal in any order, so that another order could be applied to a job that runs.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(rule("self.all(one, self.exists_one(other, other.name == one.name))", _TWICE)),
        },
    )
    filters: FiltersSpec | None = Field(
        default=None,
        description="Which training rows are left out, and how many may be before the job ends instead. Left out: the "
        "default of each field.",
    )
    validation: ValidationSpec | None = Field(
        default=None,
        description="Rows whose loss is measured while training goes on, for training.earlyStopping: a share of the "
        "training rows, or a source of their own. Never the held-out rows of the evaluation.",
    )
    replay: ReplaySpec | None = Field(
        default=None,
        description="Rows of a general dataset, a tenth of all examples by default, that keep the model from "
        "forgetting what it knew.",
    )
    packing: Literal["Auto", "Enabled", "Disabled"] | None = Field(
        default=None,
        description="Whether examples of one step share sequences (first-fit decreasing), each with positions and "
        "attention of its own: the same losses with less padding. Auto: where the model keeps examples apart and it "
        "saves at least a tenth. Enabled: InvalidSpec where it doesn't keep them apart. Default: Auto.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that tokenise rows. Default: 2.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [one.name for one in self.mixture or ()]
        if len(set(names)) < len(names):
            raise FieldError("mixture", _TWICE)
        if self.replay and REPLAY in names:
            raise FieldError("mixture", _REPLAY_TAKEN)
        weighted = [one.weight is not None for one in self.mixture or ()]
        if self.weight is None and any(weighted):
            raise FieldError("weight", _OWN_WEIGHT)
        if self.weight is not None and not all(weighted):
            raise FieldError("mixture", _ALL_WEIGHTS)
        return self


# Resolved: what a user may leave out is there, by format.


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
