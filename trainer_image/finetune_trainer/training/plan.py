"""How a step is split to fit the device: micro-batch and gradient checkpointing, the trajectory unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from finetune_api.spec import TrainingSpec
from finetune_trainer.stage.device import Device, Dtype

Checkpointing = Literal["Unsloth", "Enabled", "Disabled"]
Optimizer = Literal["AdamW8bit", "AdamW"]
# Padded batches gain little on a CPU, and activations of a small one stay in its caches.
CPU_MICRO_BATCH = 4
# The rest is for the optimizer's state, fragmentation and the allocator's rounding.
USABLE_SHARE = 0.7


@dataclass(frozen=True)
class ModelShape:
    """What activations depend on."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    def bytes_per_token(self, checkpointing: bool) -> int:
        """Upper estimate of activation memory of one token in a forward and backward pass, in bytes.

        A layer keeps about ten vectors of the hidden size and four of the intermediate size in 16 bit. With
        checkpointing each layer keeps its input only, and one layer at a time is recomputed. Logits and their gradient
        take six bytes per vocabulary entry. On Llama-3.2-1B it allows for about three times what was measured.
        """
        layer = 20 * self.hidden + 8 * self.intermediate
        logits = 6 * self.vocabulary
        kept = 2 * self.hidden * self.layers + layer if checkpointing else layer * self.layers
        return kept + logits


@dataclass(frozen=True)
class StepPlan:
    """How one optimizer step runs."""

    micro_batch: int
    accumulation: int
    checkpointing: Checkpointing


def plan_step(training: TrainingSpec, shape: ModelShape, longest: int, free_bytes: int | None) -> StepPlan:
    """Chooses what ``training`` leaves to Auto.

    ``longest`` is the longest row in tokens, ``free_bytes`` the GPU's free memory with the model loaded (None on a
    CPU). The whole batch at once without recomputing is fastest, so checkpointing comes second, splitting last.
    """
    batch, wanted, mode = training.batch_size, training.micro_batch_size, training.gradient_checkpointing
    if free_bytes is None:
        micro = wanted if isinstance(wanted, int) else _largest_divisor(batch, CPU_MICRO_BATCH)
        return StepPlan(micro, batch // micro, "Disabled" if mode == "Auto" else mode)
    modes: tuple[Checkpointing, ...] = ("Disabled", "Unsloth") if mode == "Auto" else (mode,)
    fits = {
        candidate: int(USABLE_SHARE * free_bytes) // (longest * shape.bytes_per_token(candidate != "Disabled"))
        for candidate in modes
    }
    size = wanted if isinstance(wanted, int) else batch
    chosen = next((candidate for candidate in modes if fits[candidate] >= size), modes[-1])
    micro = wanted if isinstance(wanted, int) else _largest_divisor(batch, fits[chosen])
    return StepPlan(micro, batch // micro, chosen)


def optimizer_on(device: Device, training: TrainingSpec) -> Optimizer:
    """The optimizer that runs: the spec's, or AdamW where 8 bits need a GPU."""
    return training.optimizer if device.kind == "cuda" else "AdamW"


def computed_in(arguments: Any) -> Dtype:
    """The type that a trainer with these arguments computes in. Unsloth changes them for models that need another."""
    return "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, max(1, min(number, limit)) + 1) if number % divisor == 0)
