"""The seam between a training run and what computes its steps. engines/unsloth is the one that exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from finetune_api.defaults import ResolvedTraining
from finetune_api.spec import LoraSpec
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device, Dtype
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training.packing import Layout
from finetune_trainer.training.plan import Checkpointing, StepPlan
from finetune_trainer.training.reporter import StepReporter


@dataclass(frozen=True)
class Schedule:
    """The optimisation, and how its steps run here."""

    training: ResolvedTraining
    plan: StepPlan
    warmup_steps: int
    device: Device
    packed: Layout | None = None  # how the examples of a step share sequences, where they do


@dataclass(frozen=True)
class Trained:
    """What the steps came to."""

    steps: int
    epochs: float
    tokens: int  # through the model, padding left out
    padding: float  # share of all that was computed
    micro_batch: int  # smaller than planned where memory ran out
    dtype: Dtype  # that was computed in


class Engine(Protocol):
    """One way to run the training steps. Its module owns the order in which its libraries are imported."""

    name: str

    def load_base(self, source: ModelSource, max_length: int, device: Device) -> tuple[CausalLM, Tokenizer]:
        """The base model in NF4. Raises StageError (ModelNotFound) when it can't be read or isn't whole."""
        ...

    def add_adapter(
        self, model: CausalLM, lora: LoraSpec, checkpointing: Checkpointing, source: ModelSource
    ) -> CausalLM:
        """The model with a new LoRA adapter on it. Raises StageError (InvalidSpec) for a target it can't have."""
        ...

    def train(
        self, model: CausalLM, tokenizer: Tokenizer, rows: TokenStore, schedule: Schedule, reporter: StepReporter
    ) -> Trained:
        """Takes all steps, in place, over rows in the order that the seed gives.

        Raises StageError (LossDiverged, or InvalidSpec for a batch without a token that the loss sees);
        OutOfMemoryError when no smaller batch fits.
        """
        ...
