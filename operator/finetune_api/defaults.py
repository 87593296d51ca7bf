"""Conditional defaults: what is left out of a spec and follows from its method or format.

Operator and local run share the one function. They are no schema defaults: one that depends on another field could
never be taken back within a version.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self, TypeVar

from pydantic import model_validator

from finetune_api.base import sha256_of
from finetune_api.dataset import Dataset, DatasetSpec
from finetune_api.evaluation import EvaluationSpec
from finetune_api.evaluation_alone import READ_OF_TRAINING
from finetune_api.held_out import HeldOut
from finetune_api.judge import INDIFFERENT
from finetune_api.lora import Initialization, LoraSpec
from finetune_api.output import ADAPTER, MERGED, OutputFormat, OutputSpec
from finetune_api.row_formats import FORMAT_FIELDS
from finetune_api.slices import ResolvedSlice
from finetune_api.spec import FineTuneJobSpec
from finetune_api.training import CheckpointSpec, LearningRate, TrainingSpec
from finetune_api.uris import parse_claim

EPOCHS = 3
LEARNING_RATES = {"QLoRA": "2e-4", "LoRA": "2e-4", "Full": "3e-5"}

# What names the adapter, and what of it does not change the adapter's bytes.
_TRAINING_FIELDS = ("method", "model", "dataset", "lora", "training")
# The same of a job that only evaluates.
_EVALUATED_FIELDS: dict[str, Any] = {"method": True, "model": True, "training": set(READ_OF_TRAINING)}
_DECIMALS = (
    "dropout",
    "fraction",
    "learningRate",
    "margin",
    "maxMalformed",
    "maxOverlap",
    "maxTooLong",
    "maximum",
    "maximumRetentionLoss",
    "minimum",
    "minimumChange",
    "minimumGain",
    "significance",
    "strength",
    "weight",
    "weightDecay",
)
_INDIFFERENT: dict[str, Any] = {
    "model": {"secret_ref": True, "adapter": {"secret_ref"}},
    "dataset": {
        "workers": True,
        "secret_ref": True,
        "mixture": {"__all__": {"secret_ref"}},
        "validation": {"secret_ref"},
        "replay": {"secret_ref"},
    },
    "training": {"logging_steps", "checkpoint"},
}
# What makes up a shape of rows, by the names of the API.
_DEFAULT_FORMAT = {"format": DatasetSpec.model_fields["format"].default}
_SHAPE = ("format", "columns", "promptTemplate", "optionTemplate", "inputTemplate", "responseTemplate", "endOfText")


class ResolvedTraining(TrainingSpec):
    """spec.training with its conditional defaults filled in: exactly one of max_steps and epochs is set."""

    learning_rate: LearningRate
    checkpoint: CheckpointSpec = CheckpointSpec()


class ResolvedLora(LoraSpec):
    """spec.lora with what is left out of it filled in."""

    rank_stabilized: bool = False
    initialization: Initialization = "Default"


class ResolvedEvaluation(EvaluationSpec):
    """spec.evaluation with the shape of its rows filled in."""

    dataset: HeldOut
    retention: HeldOut | None = None
    slices: list[ResolvedSlice] | None = None  # type: ignore[assignment]


class ResolvedOutput(OutputSpec):
    """spec.output with the formats that follow from the method."""

    formats: list[OutputFormat]


class ResolvedSpec(FineTuneJobSpec):
    """A spec as it will run: nothing in it depends on another field any more."""

    dataset: Dataset | None = None  # None: nothing is trained
    lora: ResolvedLora | None = None  # None: method Full, or nothing is trained
    training: ResolvedTraining
    evaluation: ResolvedEvaluation | None = None
    output: ResolvedOutput

    @model_validator(mode="after")
    def _check_alone(self) -> Self:
        return self  # the user's own spec was checked; what is filled in here says nothing of how to train

    @property
    def training_rows(self) -> Dataset:
        """spec.dataset, for what only a job that trains does."""
        assert self.dataset, "without spec.dataset there is no stage that trains"
        return self.dataset

    def training_sha256(self) -> str:
        """The digest that names an adapter and its folder.

        It covers method, model, dataset, lora and training, without what equals its default: a later version's new
        field does not change it. Where the run writes and how it is evaluated are not part of it, nor is the way in
        which a value is written: 2e-4 is 0.0002, and the order of target modules says nothing. Without a dataset it
        names what is evaluated: method, model, and what of training an evaluation reads.
        """
        spelled = one_spelling(self)
        named = spelled.model_dump(
            mode="json",
            by_alias=True,
            exclude_defaults=True,
            exclude_none=True,
            include=set(_TRAINING_FIELDS) if spelled.dataset else _EVALUATED_FIELDS,
            exclude=_INDIFFERENT,
        )
        if not (self.dataset and spelled.dataset):
            return sha256_of(named)
        # A default of its own class, yet rows are read by it.
        named["dataset"]["format"] = self.dataset.format
        if spelled.dataset.replay:
            named["dataset"]["replay"]["format"] = spelled.dataset.replay.format
        if spelled.dataset.validation and spelled.dataset.validation.source:
            named["dataset"]["validation"]["format"] = spelled.dataset.validation.format
        if spelled.dataset.mixture:
            for one, member in zip(named["dataset"]["mixture"], spelled.dataset.mixture, strict=True):
                one["format"] = member.format
        return sha256_of(named)

    def evaluation_sha256(self) -> str | None:
        """The digest that names an evaluation of that adapter; None where the spec asks for none."""
        if self.evaluation is None:
            return None
        spelled = one_spelling(self)
        evaluation = spelled.evaluation
        assert evaluation is not None
        named = evaluation.model_dump(
            mode="json",
            by_alias=True,
            exclude_defaults=True,
            exclude_none=True,
            exclude={
                "dataset": {"secret_ref"},
                "retention": {"secret_ref"},
                "judge": INDIFFERENT,
                "slices": {"__all__": {"dataset": {"secret_ref"}}},
            },
        )
        if spelled.dataset and _shape(evaluation.dataset) == _shape(
            spelled.dataset
        ):  # as when the spec says nothing of it
            named["dataset"] = {name: value for name, value in named["dataset"].items() if name not in _SHAPE}
        else:
            named["dataset"]["format"] = evaluation.dataset.format
        if evaluation.retention:
            named["retention"]["format"] = evaluation.retention.format
        for one, beside in zip(named.get("slices", ()), evaluation.slices or (), strict=True):
            if beside.dataset:
                one["dataset"]["format"] = beside.dataset.format
        return sha256_of({"trainingSha256": self.training_sha256(), "evaluation": named})


S = TypeVar("S", bound=ResolvedSpec)


def one_spelling(spec: S) -> S:
    """The same spec with each value in the one form that digests are made of. Defaults are written so already."""
    return type(spec).model_validate(_spelled("", spec.to_api()))


def _spelled(field: str, value: Any) -> Any:
    if isinstance(value, dict) and field != "chatTemplateKwargs":
        return {name: _spelled(name, one) for name, one in value.items()}
    if field in _DECIMALS:
        return f"{Decimal(value).normalize():f}"
    if field in ("source", "report") and value.startswith("pvc://"):
        return str(parse_claim(value))
    if field in ("mixture", "gates", "checks"):
        return [_spelled("", one) for one in value]
    if field == "slices":  # a map by name, so that its order says nothing
        return [_spelled("", one) for one in sorted(value, key=lambda one: str(one["name"]))]
    return sorted(value) if field == "targetModules" else value


def resolve(spec: FineTuneJobSpec) -> ResolvedSpec:
    """The spec with everything filled in that a user may leave out."""
    given = spec.to_api()
    training: dict[str, Any] = {"learningRate": LEARNING_RATES[spec.method], **given["training"]}
    if spec.training.max_steps is None and spec.training.epochs is None:
        training["epochs"] = EPOCHS
    full, trains = spec.method == "Full", spec.dataset is not None
    # Where nothing is trained, the held-out rows stand in for spec.dataset.
    rows = given["dataset"] if trains else given["evaluation"]["dataset"]
    shape = {**_DEFAULT_FORMAT, **{name: rows[name] for name in _SHAPE if name in rows}}
    resolved = {**given, "training": training}
    if trains:
        resolved["dataset"] = _all_shaped(rows, shape)
    if trains and not full:
        resolved["lora"] = given.get("lora", {})
    saved = [MERGED if full else ADAPTER] if trains else []
    resolved["output"] = {"formats": saved, **given["output"]}
    if "evaluation" in given:
        evaluation = {**given["evaluation"], "dataset": _shaped(given["evaluation"]["dataset"], shape)}
        if "retention" in evaluation:
            evaluation["retention"] = _shaped(evaluation["retention"], shape)
        if "slices" in evaluation:
            evaluation["slices"] = [
                {**one, "dataset": _shaped(one["dataset"], shape)} if "dataset" in one else one
                for one in evaluation["slices"]
            ]
        resolved["evaluation"] = evaluation
    return ResolvedSpec.model_validate(resolved)


def _all_shaped(dataset: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """spec.dataset with a shape for all rows in it."""
    if "mixture" in dataset:
        dataset = {**dataset, "mixture": [_shaped(one, shape) for one in dataset["mixture"]]}
    if "replay" in dataset:
        dataset = {**dataset, "replay": _shaped(dataset["replay"], shape)}
    if "source" in dataset.get("validation", {}):
        dataset = {**dataset, "validation": _shaped(dataset["validation"], shape)}
    return dataset


def _shaped(rows: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """Rows with a shape: their own where they name a format, else that of spec.dataset."""
    return rows if "format" in rows else {**rows, **shape}


def _shape(rows: Dataset | HeldOut) -> dict[str, Any]:
    return rows.model_dump(include={"format", "columns", *FORMAT_FIELDS})
