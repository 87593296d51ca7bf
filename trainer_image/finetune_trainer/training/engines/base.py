"""The seam between a training run and what computes its steps. engines/unsloth is the one that exists.

The run owns the order of rows, the learning rate, checkpoints and when to stop; an engine owns one step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from finetune_api.defaults import ResolvedTraining
from finetune_trainer.models.methods import Method, Trainable
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device, Dtype
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training.packing import Layout
from finetune_trainer.training.plan import Checkpointing, StepPlan

if TYPE_CHECKING:
    from torch import Tensor

    from finetune_trainer.training.consolidation import Penalty
    from finetune_trainer.training.micro_batches import Batch


@dataclass(frozen=True)
class StepSettings:
    """How each step is computed here."""

    training: ResolvedTraining
    plan: StepPlan
    device: Device
    packed: Layout | None = None  # how the examples of a step share sequences, where they do
    penalty: Penalty | None = None  # a term of the loss beside that of the rows


@dataclass(frozen=True)
class StepOutcome:
    """What one optimizer step came to."""

    loss: float  # mean over the label tokens of its rows, before the update
    gradient_norm: float | None  # before clipping; None where gradients overflowed in float16, so that nothing changed
    penalty: float | None = None  # what the penalty added to the loss, which does not count it


@dataclass(frozen=True)
class StepperState:
    """All that the next step depends on beside its rows and its rate, to the bit."""

    tensors: dict[str, Tensor]
    # What is no tensor, as JSON has it.
    values: dict[str, Any] = field(default_factory=dict)


class Stepper(Protocol):
    """Takes steps on one model, in place."""

    micro_batch: int  # rows at a time; lowered where memory runs out and the plan allows it
    memory_retries: int  # how often a step began anew with a smaller micro-batch
    computed_tokens: int  # through the model so far, padding with them
    dtype: Dtype  # that is computed in

    def step(self, batch: Batch, learning_rate: float) -> StepOutcome:
        """One optimizer step on a padded batch. Raises OutOfMemoryError when no smaller micro-batch fits."""
        ...

    def loss(self, batch: Batch) -> tuple[float, int]:
        """Sum of the losses of a padded batch's label tokens, and how many they are; nothing is changed by it."""
        ...

    def state(self) -> StepperState:
        """The state after the last step. Its tensors may be those that the next step changes."""
        ...

    def restore(self, state: StepperState) -> None:
        """Takes a state back. Raises ValueError when it is that of another model or optimizer."""
        ...

    def restore_weights(self, state: StepperState) -> None:
        """Takes back what is trained, and nothing else. Raises ValueError when it is that of another model."""
        ...


class Engine(Protocol):
    """One way to run the training steps. Its module owns the order in which its libraries are imported."""

    name: str

    def load_base(
        self, source: ModelSource, max_length: int, device: Device, method: Method
    ) -> tuple[CausalLM, Tokenizer]:
        """The base model in the method's precision.

        Raises StageError (ModelNotFound) when it can't be read or isn't whole.
        """
        ...

    def trainable(self, checkpointing: Checkpointing) -> Trainable:
        """What makes something of a model trainable, with activations kept like this."""
        ...

    def stepper(self, model: CausalLM, tokenizer: Tokenizer, settings: StepSettings) -> Stepper:
        """What takes this model's steps."""
        ...
