"""Conditional defaults: what is left out of a spec and follows from its method or format.

Operator and local run share the one function. They are no schema defaults: one that depends on another field could
never be taken back within a version.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from finetune_api.base import sha256_of
from finetune_api.dataset import FORMATS, Dataset
from finetune_api.spec import FineTuneJobSpec, LearningRate, LoraSpec, TrainingSpec
from finetune_api.uris import parse_claim

EPOCHS = 3
LEARNING_RATES = {"QLoRA": "2e-4"}

# What names the adapter, and what of it does not change the adapter's bytes.
_TRAINING_FIELDS = ("method", "model", "dataset", "lora", "training")
_DECIMALS = ("dropout", "learningRate", "weightDecay")
_INDIFFERENT = {"dataset": {"workers"}, "training": {"logging_steps"}}


class ResolvedTraining(TrainingSpec):
    """spec.training with its conditional defaults filled in: exactly one of max_steps and epochs is set."""

    learning_rate: LearningRate


class ResolvedSpec(FineTuneJobSpec):
    """A spec as it will run: nothing in it depends on another field any more."""

    dataset: Dataset
    lora: LoraSpec
    training: ResolvedTraining

    def training_sha256(self) -> str:
        """The digest that names an adapter and its folder.

        It covers method, model, dataset, lora and training, without what equals its default: a later version's new
        field does not change it. Where the run writes and how it is evaluated are not part of it, nor is the way in
        which a value is written: 2e-4 is 0.0002, and the order of target modules says nothing.
        """
        named = _one_spelling(self).model_dump(
            mode="json",
            by_alias=True,
            exclude_defaults=True,
            exclude_none=True,
            include=set(_TRAINING_FIELDS),
            exclude=_INDIFFERENT,
        )
        named["dataset"]["format"] = self.dataset.format  # a default of its own class, yet rows are read by it
        return sha256_of(named)

    def evaluation_sha256(self) -> str | None:
        """The digest that names an evaluation of that adapter; None where the spec asks for none."""
        if self.evaluation is None:
            return None
        evaluation = _one_spelling(self).evaluation
        assert evaluation is not None
        named = evaluation.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
        return sha256_of({"trainingSha256": self.training_sha256(), "evaluation": named})


S = TypeVar("S", bound=ResolvedSpec)


def _one_spelling(spec: S) -> S:
    """The same spec with each value in the one form that digests are made of. Defaults are written so already."""
    return type(spec).model_validate(_spelled("", spec.to_api()))


def _spelled(field: str, value: Any) -> Any:
    if isinstance(value, dict) and field != "chatTemplateKwargs":
        return {name: _spelled(name, one) for name, one in value.items()}
    if field in _DECIMALS:
        return f"{Decimal(value).normalize():f}"
    if field == "source" and value.startswith("pvc://"):
        return str(parse_claim(value))
    return sorted(value) if field == "targetModules" else value


def resolve(spec: FineTuneJobSpec) -> ResolvedSpec:
    """The spec with everything filled in that a user may leave out."""
    given = spec.to_api()
    training: dict[str, Any] = {"learningRate": LEARNING_RATES[spec.method], **given["training"]}
    if spec.training.max_steps is None and spec.training.epochs is None:
        training["epochs"] = EPOCHS
    dataset = FORMATS[spec.dataset.format].model_validate(given["dataset"])
    return ResolvedSpec.model_validate(
        {**given, "dataset": dataset.to_api(), "lora": given.get("lora", {}), "training": training}
    )
