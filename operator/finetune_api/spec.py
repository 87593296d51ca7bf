"""``FineTuneJob.spec``: what a user asks for. Defaults that need no other field stand here, the rest in defaults.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from finetune_api.base import ApiModel, FieldError
from finetune_api.dataset import DatasetSpec, EvaluationDatasetSpec
from finetune_api.model import ModelSpec
from finetune_api.rules import Decimal, Within, rule, validations
from finetune_api.runtime import RuntimeSpec, SchedulingSpec
from finetune_api.tracking import TrackingSpec
from finetune_api.uris import DestinationURI

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]

ALL_LINEAR = "AllLinear"
_ALONE = "AllLinear stands alone: it names every linear layer"


Initialization = Literal["Default", "LoftQ", "PiSSA"]


class LoraSpec(ApiModel):
    """The adapter, in PEFT's terms."""

    rank: int = Field(
        default=16,
        ge=1,
        le=512,
        description="Rank r of the two matrices that LoRA adds beside each target module: W x + (alpha / rank) B A x. "
        "A higher rank learns more and costs memory; 8 to 64 is usual. Default: 16.",
    )
    alpha: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Scale of the update: it is multiplied by alpha / rank. Usually equal to the rank or twice it. "
        "Default: 16.",
    )
    dropout: Annotated[Decimal, Within(0, 0.9)] = Field(
        default="0", description="Dropout on the adapter's input. Unsloth's fast path wants 0. Default: 0."
    )
    bias: Literal["None", "All", "LoraOnly"] = Field(
        default="None", description="Which bias vectors are trained. Default: None."
    )
    target_modules: list[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.]+$")]] = Field(
        default=[ALL_LINEAR],
        min_length=1,
        max_length=32,
        description="Linear modules that get an adapter, by the last part of their name. [AllLinear]: every linear "
        "layer but the output head; for a Llama q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj. "
        "Default: [AllLinear].",
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            **validations(rule(f"!('{ALL_LINEAR}' in self) || self.size() == 1", _ALONE)),
        },
    )
    rank_stabilized: bool | None = Field(
        default=None,
        description="Scale the update by alpha / sqrt(rank), so that high ranks learn as fast as low ones (rsLoRA, "
        "Kalajdzievski 2023). Default: false.",
    )
    initialization: Initialization | None = Field(
        default=None,
        description="What the adapter begins with, if not with no change to the model (Default). LoftQ (method QLoRA): "
        "what NF4 rounded away, as far as the rank holds it (Li et al. 2023). PiSSA (method LoRA): the principal part "
        "of each weight, which is then trained (Meng et al. 2024); the saved adapter has twice the rank and fits the "
        "base model as it is. Default: Default.",
    )
    seed: Seed = Field(default=42, description="Seed of the adapter's initial weights. Default: 42.")

    @field_validator("target_modules")
    @classmethod
    def _check_targets(cls, targets: list[str]) -> list[str]:
        if ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError(_ALONE)
        if len(set(targets)) < len(targets):
            raise ValueError("a module is named twice")
        return targets


_MICRO_BATCH = "must be Auto or a number of examples from 1 to 1024"


def _micro_batch(value: Any) -> Any:
    # In place of the union's own error, which speaks of both types.
    if value == "Auto" or (type(value) is int and 1 <= value <= 1024):
        return value
    raise ValueError(_MICRO_BATCH)


MicroBatchSize = Annotated[
    Literal["Auto"] | int,
    BeforeValidator(_micro_batch),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            **validations(
                rule("type(self) == string ? self == 'Auto' : (self >= 1 && self <= 1024)", _MICRO_BATCH),
            ),
        }
    ),
]


LearningRate = Annotated[Decimal, Within(0, 1, above=True)]


class CheckpointSpec(ApiModel):
    """How often a run brings its state into safety."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between two checkpoints. Left out: as often as takes a twentieth of the time, and every 30 "
        "seconds at most.",
    )
    keep: int = Field(
        default=2, ge=1, le=100, description="How many of the newest checkpoints stay while the run lasts. Default: 2."
    )


class EarlyStoppingSpec(ApiModel):
    """When training has gone far enough."""

    every_steps: int = Field(
        default=25, ge=1, le=1_000_000, description="Steps between two evaluations of the validation rows. Default: 25."
    )
    patience: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Training ends after so many evaluations in a row without a lower loss. Default: 3.",
    )
    minimum_change: Annotated[Decimal, Within(0, 100)] = Field(
        default="0", description='A loss counts as lower when it is so by more than this. Default: "0".'
    )


class ElasticWeightConsolidationSpec(ApiModel):
    """How strongly the model is held to what it was, where that mattered to rows of a general dataset."""

    strength: Annotated[Decimal, Within(0, 1_000_000_000, above=True)] = Field(
        description="Weight of the penalty: half of it times the Fisher information of each weight times the square of "
        "its change (Kirkpatrick et al. 2017) is added to the loss."
    )
    max_examples: int = Field(
        default=128, ge=1, le=100_000, description="Rows of dataset.replay that the information is of. Default: 128."
    )


class TrainingSpec(ApiModel):
    """The optimisation, in the terms of TRL's SFTConfig."""

    model_config = {
        "json_schema_extra": validations(
            rule("!(has(self.maxSteps) && has(self.epochs))", "set maxSteps or epochs, not both"),
            rule(
                "!has(self.microBatchSize) || type(self.microBatchSize) == string || "
                "(has(self.batchSize) && self.batchSize % self.microBatchSize == 0)",
                "batchSize must be a multiple of microBatchSize",
            ),
        )
    }

    batch_size: int = Field(default=8, ge=1, le=4096, description="Examples per optimizer step.")
    micro_batch_size: MicroBatchSize = Field(
        default="Auto",
        description="Examples per forward pass; the rest of batchSize is accumulated, with the same trajectory. "
        "Auto: chosen for the device.",
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Optimizer steps. Neither this nor epochs: 3 epochs."
    )
    epochs: int | None = Field(default=None, ge=1, le=1000, description="Passes over the training rows.")
    learning_rate: LearningRate | None = Field(
        default=None,
        description='Peak learning rate, a decimal in quotes, such as "2e-4". Left out, it follows from the method: '
        '"2e-4" for QLoRA and LoRA, where 1e-4 to 5e-4 is usual; "3e-5" for Full, where 3e-5 to 5e-5 is.',
    )
    warmup_steps: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="Steps of linear warm-up, of which a run takes at most half of its steps.",
    )
    scheduler: Literal["Linear", "Cosine", "Constant"] = Field(
        default="Linear", description="How the learning rate goes from its peak to the last step."
    )
    optimizer: Literal["AdamW8bit", "AdamW"] = Field(
        default="AdamW8bit",
        description="AdamW8bit keeps its moments in 8 bit and needs a GPU; on a CPU AdamW runs in its place.",
    )
    weight_decay: Annotated[Decimal, Within(0, 1)] = Field(default="0.01", description="Decoupled weight decay.")
    gradient_checkpointing: Literal["Auto", "Unsloth", "Enabled", "Disabled"] = Field(
        default="Auto", description="Recompute activations in the backward pass: less memory, more time."
    )
    loss_on: Literal["Responses", "LastResponse", "All"] = Field(
        default="Responses",
        description="Tokens that count in the loss. Responses: what the assistant says, in each turn. LastResponse: in "
        "its last turn only. All: every token. A turn with train: false never counts.",
    )
    logging_steps: int = Field(default=10, ge=1, le=100_000, description="Steps between two logged losses.")
    seed: Seed = Field(default=700, description="Seed of the row order and of dropout.")
    early_stopping: EarlyStoppingSpec | None = Field(
        default=None,
        description="Ends training when the loss of dataset.validation no longer falls, and saves what was best. Left "
        "out: all steps are taken.",
    )
    elastic_weight_consolidation: ElasticWeightConsolidationSpec | None = Field(
        default=None,
        description="Holds weights that matter to the rows of dataset.replay near to where they were, against "
        "forgetting. For QLoRA and LoRA it looks at the update of each weight, for Full at the weights themselves.",
    )
    checkpoint: CheckpointSpec | None = Field(
        default=None,
        description="How often the run's state is written to the output claim. A run that is preempted or killed goes "
        "on from the last checkpoint, to the same adapter. Left out: the default of each field.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("set maxSteps or epochs, not both")
        if isinstance(self.micro_batch_size, int) and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batchSize {self.batch_size} must be a multiple of microBatchSize {self.micro_batch_size}"
            )
        return self


MetricName = Literal["Accuracy", "LetterAccuracy", "Perplexity"]
_METRIC_TWICE = "a metric is named twice"


class EvaluationSpec(ApiModel):
    """What is measured after training, on base and tuned alike."""

    dataset: EvaluationDatasetSpec = Field(description="Held-out rows.")
    compare_with_base: bool = Field(default=True, description="Score the base model on the same rows.")
    metrics: list[MetricName] = Field(
        default=["Accuracy", "LetterAccuracy", "Perplexity"],
        min_length=1,
        max_length=len(get_args(MetricName)),
        description="Accuracy: the option whose filled response template is likeliest per token, after what all "
        "options share. LetterAccuracy: the likeliest letter as the first token. Perplexity: of the right response.",
        # No set: those are equal in any order, and the first metric makes the summary.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(rule("self.all(one, self.exists_one(other, other == one))", _METRIC_TWICE)),
        },
    )
    retention: EvaluationDatasetSpec | None = Field(
        default=None,
        description="Rows of a general dataset: did the model forget? Their perplexity is measured before training, "
        "while it goes on and after it, and of rows with options the accuracy of base and tuned.",
    )
    max_new_tokens: int = Field(default=128, ge=1, le=4096, description="Longest sampled answer, in tokens.")
    sample_prompts: int = Field(
        default=3, ge=0, le=32, description="Rows that base and tuned also answer in words, side by side."
    )

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[MetricName]) -> list[MetricName]:
        if len(set(metrics)) < len(metrics):
            raise ValueError(_METRIC_TWICE)
        return metrics


OutputFormat = Literal["Adapter", "Merged16Bit"]
ADAPTER: OutputFormat = "Adapter"
MERGED: OutputFormat = "Merged16Bit"


class OutputSpec(ApiModel):
    """Where the artefacts go."""

    destination: DestinationURI = Field(
        description="pvc://<claim>/<path>. A run writes below <destination>/<first 12 digits of trainingSha256>/."
    )
    formats: list[OutputFormat] | None = Field(
        default=None,
        min_length=1,
        max_length=2,
        description="What is saved. Adapter: the LoRA adapter with its tokenizer; QLoRA and LoRA always save it. "
        "Merged16Bit: the whole model in 16 bit, the adapter merged into it. Default: [Adapter], for Full "
        "[Merged16Bit].",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: list[str] | None) -> list[str] | None:
        if formats and len(set(formats)) < len(formats):
            raise ValueError("a format is named twice")
        return formats


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
    """A fine-tune: model, rows, adapter, optimisation, evaluation, and where it runs."""

    model_config = {
        "json_schema_extra": validations(
            *map(_immutable, (*IMMUTABLE_FIELDS, "tracking", "runtime", "scheduling")),
            rule("self.method != 'Full' || !has(self.lora)", _NO_LORA, ".lora"),
            rule("self.method != 'Full' || !has(self.model.adapter)", _NOT_FULL, ".model.adapter"),
            rule("!has(self.training.earlyStopping) || has(self.dataset.validation)", _STOPPING, ".dataset"),
            rule(
                "!has(self.training.elasticWeightConsolidation) || has(self.dataset.replay)", _CONSOLIDATION, ".dataset"
            ),
            rule(
                "!has(self.dataset.validation) || !has(self.dataset.validation.source) || !has(self.evaluation) || "
                "self.dataset.validation.source != self.evaluation.dataset.source || "
                "self.dataset.validation.split != self.evaluation.dataset.split",
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
    dataset: DatasetSpec = Field(description="The training rows.")
    # No object default in the schema: whether an adapter is used at all follows from the method.
    lora: LoraSpec | None = Field(
        default=None,
        description="The adapter, in PEFT's terms; not for method Full. Left out: the default of each field.",
    )
    training: TrainingSpec = Field(default=TrainingSpec(), description="The optimisation.")
    evaluation: EvaluationSpec | None = Field(
        default=None, description="What is measured after training. Left out: nothing is evaluated."
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
        if self.training.early_stopping and not self.dataset.validation:
            raise FieldError("dataset", _STOPPING)
        if self.training.elastic_weight_consolidation and not self.dataset.replay:
            raise FieldError("dataset", _CONSOLIDATION)
        validation, evaluation = self.dataset.validation, self.evaluation
        if (
            validation
            and evaluation
            and (validation.source, validation.split) == (evaluation.dataset.source, evaluation.dataset.split)
        ):
            raise FieldError("dataset.validation", _SAME_ROWS)
        beginning = (self.lora.initialization if self.lora else None) or "Default"
        if beginning == "LoftQ" and self.method != "QLoRA":
            raise FieldError("lora.initialization", _LOFTQ)
        if beginning == "PiSSA" and self.method != "LoRA":
            raise FieldError("lora.initialization", _PISSA)
        if self.model.adapter and beginning != "Default":
            raise FieldError("lora.initialization", _CONTINUED)
        return self
