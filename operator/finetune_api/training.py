"""``spec.training``: the optimisation, its checkpoints, and when it ends."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from finetune_api.base import ApiModel, Seed
from finetune_api.rules import Decimal, Within, rule, validations
from finetune_api.uris import ClaimName

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
    claim_name: ClaimName | None = Field(
        default=None,
        description="PersistentVolumeClaim that holds them while the run lasts. Left out: that of output.destination.",
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
        default="0",
        description="Patience counts a loss as lower when it is so by more than this. The lowest is saved "
        'all the same. Default: "0".',
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
