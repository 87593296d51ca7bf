"""``FineTuneJob.spec``: what a user asks for, its sections together.

Each section has a module of its own. Defaults that need no other field stand there, the rest in defaults.py.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from finetune_api.base import ApiModel, FieldError
from finetune_api.dataset import DatasetSpec
from finetune_api.evaluation import EvaluationSpec
from finetune_api.evaluation_alone import alone_rules, check_alone
from finetune_api.lora import LoraSpec
from finetune_api.model import ModelSpec
from finetune_api.output import ADAPTER, MERGED, OutputSpec
from finetune_api.rules import rule, validations
from finetune_api.runtime import RuntimeSpec, SchedulingSpec
from finetune_api.tracking import TrackingSpec
from finetune_api.training import TrainingSpec

# They can't change once the object exists; see defaults.py for the digests that name adapter and report.
IMMUTABLE_FIELDS = ("method", "model", "dataset", "lora", "training", "evaluation", "output")


def _immutable(field: str) -> dict[str, str]:
    return rule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} can't change once the job exists: apply it under a new name, or delete the job and apply again",
    )


MethodName = Literal["QLoRA", "LoRA", "Full"]
_NO_LORA = "method Full trains the weights themselves: leave lora out"
_FULL_FORMAT = "method Full saves the whole model: formats must be [Merged16Bit]"
_ADAPTER_FORMAT = "QLoRA and LoRA always save their adapter: formats must name Adapter"
_LOFTQ = "initialization LoftQ makes good what NF4 rounded away: it needs method QLoRA"
_PISSA = "initialization PiSSA splits weights in 16 bit: it needs method LoRA"
_STOPPING = "earlyStopping looks at the loss of validation rows: set dataset.validation"
_CONSOLIDATION = "elasticWeightConsolidation looks at the rows of a general dataset: set dataset.replay"
_SAME_ROWS = "dataset.validation names the held-out rows of the evaluation, which nothing may be chosen by"
_CONTINUED = "an adapter that training continues from has its initial weights: leave lora.initialization out"
_NOT_FULL = "method Full continues from no adapter: leave model.adapter out"


class FineTuneJobSpec(ApiModel):
    """A fine-tune: model, rows, adapter, optimisation, evaluation, and where it runs. Without rows: an evaluation."""

    model_config = {
        "json_schema_extra": validations(
            *map(_immutable, (*IMMUTABLE_FIELDS, "tracking", "runtime", "scheduling")),
            rule("self.method != 'Full' || !has(self.lora)", _NO_LORA, ".lora"),
            rule("self.method != 'Full' || !has(self.model.adapter)", _NOT_FULL, ".model.adapter"),
            *alone_rules(),
            rule(
                "!has(self.training.earlyStopping) || !has(self.dataset) || has(self.dataset.validation)",
                _STOPPING,
                ".dataset",
            ),
            rule(
                "!has(self.training.elasticWeightConsolidation) || !has(self.dataset) || has(self.dataset.replay)",
                _CONSOLIDATION,
                ".dataset",
            ),
            rule(
                "!has(self.dataset) || !has(self.dataset.validation) || !has(self.dataset.validation.source) || "
                "!has(self.evaluation) || "
                "self.dataset.validation.source != self.evaluation.dataset.source || "
                "self.dataset.validation.split != self.evaluation.dataset.split || "
                "has(self.dataset.validation.config) != has(self.evaluation.dataset.config) || "
                "(has(self.dataset.validation.config) && "
                "self.dataset.validation.config != self.evaluation.dataset.config)",
                _SAME_ROWS,
                ".dataset.validation",
            ),
            rule(
                "!has(self.output.formats) || self.method != 'Full' || self.output.formats == ['Merged16Bit']",
                _FULL_FORMAT,
                ".output.formats",
            ),
            rule(
                "!has(self.output.formats) || self.method == 'Full' || 'Adapter' in self.output.formats",
                _ADAPTER_FORMAT,
                ".output.formats",
            ),
            rule(
                "!has(self.lora) || !has(self.lora.initialization) || self.lora.initialization != 'LoftQ' || "
                "self.method == 'QLoRA'",
                _LOFTQ,
                ".lora.initialization",
            ),
            rule(
                "!has(self.lora) || !has(self.lora.initialization) || self.lora.initialization != 'PiSSA' || "
                "self.method == 'LoRA'",
                _PISSA,
                ".lora.initialization",
            ),
            rule(
                "!has(self.model.adapter) || !has(self.lora) || !has(self.lora.initialization) || "
                "self.lora.initialization == 'Default'",
                _CONTINUED,
                ".lora.initialization",
            ),
        )
    }

    method: MethodName = Field(
        default="QLoRA",
        description="QLoRA: a LoRA adapter on a base model quantised to NF4 (4 bit, double quantisation). LoRA: an "
        "adapter on the base model in 16 bit. Full: all weights of the model itself.",
    )
    model: ModelSpec = Field(description="The base model.")
    dataset: DatasetSpec | None = Field(
        default=None,
        description="The training rows. Left out: nothing is trained, and model.adapter is evaluated, which evaluation "
        "must then say how; of method Full it is model.source itself, without a base to compare with.",
    )
    # No object default in the schema: whether an adapter is used at all follows from the method.
    lora: LoraSpec | None = Field(
        default=None,
        description="The adapter, in PEFT's terms; not for method Full. Left out: the default of each field.",
    )
    training: TrainingSpec = Field(default=TrainingSpec(), description="The optimisation.")
    evaluation: EvaluationSpec | None = Field(
        default=None, description="What is measured after training, or alone. Left out: nothing is evaluated."
    )
    output: OutputSpec = Field(description="Where the artefacts go.")
    tracking: TrackingSpec | None = Field(
        default=None, description="Where the training's course is recorded, beside metrics.jsonl in the run's folder."
    )
    runtime: RuntimeSpec = Field(default=RuntimeSpec(), description="The pod that a stage runs in.")
    scheduling: SchedulingSpec = Field(default=SchedulingSpec(), description="Retries.")

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        formats, full = self.output.formats, self.method == "Full"
        if full and self.lora:
            raise FieldError("lora", _NO_LORA)
        if full and self.model.adapter:
            raise FieldError("model.adapter", _NOT_FULL)
        if formats and full and formats != [MERGED]:
            raise FieldError("output.formats", _FULL_FORMAT)
        if formats and not full and ADAPTER not in formats:
            raise FieldError("output.formats", _ADAPTER_FORMAT)
        if self.dataset:
            self._check_rows(self.dataset)
        beginning = (self.lora.initialization if self.lora else None) or "Default"
        if beginning == "LoftQ" and self.method != "QLoRA":
            raise FieldError("lora.initialization", _LOFTQ)
        if beginning == "PiSSA" and self.method != "LoRA":
            raise FieldError("lora.initialization", _PISSA)
        if self.model.adapter and beginning != "Default":
            raise FieldError("lora.initialization", _CONTINUED)
        return self

    def _check_rows(self, dataset: DatasetSpec) -> None:
        if self.training.early_stopping and not dataset.validation:
            raise FieldError("dataset", _STOPPING)
        if self.training.elastic_weight_consolidation and not dataset.replay:
            raise FieldError("dataset", _CONSOLIDATION)
        validation, held_out = dataset.validation, self.evaluation.dataset if self.evaluation else None
        if validation and held_out and validation.place == held_out.place:
            raise FieldError("dataset.validation", _SAME_ROWS)

    @model_validator(mode="after")
    def _check_alone(self) -> Self:
        if self.dataset is None:
            check_alone(self)
        return self
