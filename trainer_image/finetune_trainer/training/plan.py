"""How a step is split to fit the device: micro-batch and gradient checkpointing, the trajectory unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune_api.defaults import ResolvedTraining
from finetune_api.results import Advice
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device

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


def shape_of(model: CausalLM) -> ModelShape:
    """A loaded model's shape."""
    config = model.config.get_text_config()
    intermediate = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    if isinstance(intermediate, list):  # one number for each layer
        intermediate = max(intermediate)
    return ModelShape(config.num_hidden_layers, config.hidden_size, intermediate, config.vocab_size)


@dataclass(frozen=True)
class StepPlan:
    """How one optimizer step runs."""

    batch: int
    micro_batch: int
    checkpointing: Checkpointing
    may_shrink: bool = False  # whether micro_batch is ours to lower when memory runs out in a step

    @property
    def passes(self) -> int:
        """Forward passes of a step."""
        return -(-self.batch // self.micro_batch)


def plan_step(training: ResolvedTraining, shape: ModelShape, longest: int, free_bytes: int | None) -> StepPlan:
    """Chooses what ``training`` leaves to Auto.

    ``longest`` is the longest row in tokens, ``free_bytes`` the GPU's free memory with the model loaded (None on a
    CPU). The whole batch at once without recomputing is fastest, so checkpointing comes second, splitting last.
    """
    batch, wanted, mode = training.batch_size, training.micro_batch_size, training.gradient_checkpointing
    auto = wanted == "Auto"
    if free_bytes is None:
        micro = even_split(batch, CPU_MICRO_BATCH) if isinstance(wanted, str) else wanted
        return StepPlan(batch, micro, "Disabled" if mode == "Auto" else mode, auto)
    modes: tuple[Checkpointing, ...] = ("Disabled", "Unsloth") if mode == "Auto" else (mode,)
    fits = {
        candidate: int(USABLE_SHARE * free_bytes) // (longest * shape.bytes_per_token(candidate != "Disabled"))
        for candidate in modes
    }
    size = batch if isinstance(wanted, str) else wanted
    chosen = next((candidate for candidate in modes if fits[candidate] >= size), modes[-1])
    micro = even_split(batch, fits[chosen]) if isinstance(wanted, str) else wanted
    return StepPlan(batch, micro, chosen, auto)


def even_split(batch: int, limit: int) -> int:
    """Examples per pass when at most ``limit`` fit: as few passes as can be, as even as can be (7 of 6: 4 and 3)."""
    passes = -(-batch // max(1, limit))
    return -(-batch // passes)


def optimizer_on(device: Device, training: ResolvedTraining) -> Optimizer:
    """The optimizer that runs: the spec's, or AdamW where 8 bits need a GPU."""
    return training.optimizer if device.kind == "cuda" else "AdamW"


def total_steps(training: ResolvedTraining, rows: int) -> int:
    """Optimizer steps of the whole run over so many rows; an epoch's last step may hold fewer rows."""
    if training.max_steps is not None:
        return training.max_steps
    return (training.epochs or 1) * -(-rows // training.batch_size)


def warmup_steps(training: ResolvedTraining, total: int) -> tuple[int, Advice | None]:
    """Steps of warm-up that will be taken, at most half of all, and what to say when these are fewer than asked for."""
    taken = min(training.warmup_steps, total // 2)
    if taken == training.warmup_steps:
        return taken, None
    text = (
        f"warmupSteps {training.warmup_steps} is more than half of the run's {total} steps: {taken} were taken. "
        "Train for more steps, or lower spec.training.warmupSteps"
    )
    return taken, Advice(reason="WarmupCut", message=text)
