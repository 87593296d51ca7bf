"""What a job would do, put together from its spec, its rows and its model's shape. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.results import Advice
from finetune_trainer.models.adapter_targets import AdapterLayers, checkpoint_room, room_needed
from finetune_trainer.stage.device import Device
from finetune_trainer.training.estimate import Estimate, Parameters, estimate
from finetune_trainer.training.plan import ModelShape, StepPlan, optimizer_on, plan_step, total_steps, warmup_steps
from finetune_trainer.training.spec_advice import bias_advice, spec_advice

_CPU, _GPU = Device("cpu", "CPU", 0, "float32"), Device("cuda", "GPU", 0, "bfloat16")


@dataclass(frozen=True)
class RowsToTrainOn:
    """What the steps depend on."""

    summary: str  # as status.dataset.summary
    rows: int  # examples that are trained on
    longest: int  # of them, in tokens
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class ModelToTrain:
    """A model whose weights need not be there, and the adapter that it would get."""

    shape: ModelShape
    parameters: Parameters
    layers: Sequence[AdapterLayers]
    biases: int  # bias vectors that are trained
    adapter_bytes: int


@dataclass(frozen=True)
class Room:
    """What a run may write to the claim of its output, in bytes."""

    total: int
    checkpoints: int  # of that


@dataclass(frozen=True)
class RunPlan:
    """What a job would do. ``model`` and all that follows from it is None where its code wants weights to be built."""

    spec: ResolvedSpec
    rows: RowsToTrainOn
    steps: int
    steps_of_a_pass: int
    warmup_steps: int
    optimizer: str
    model: ModelToTrain | None
    room: Room | None
    on_cpu: StepPlan | None  # of a job that asks for no GPU
    estimates: Sequence[Estimate]  # a GPU each
    advice: Sequence[Advice]


def plan_run(
    spec: ResolvedSpec, rows: RowsToTrainOn, model: ModelToTrain | None, tokenizer_bytes: int, gpus: Sequence[int]
) -> RunPlan:
    """What a job would do; ``gpus`` are sizes in bytes of GPUs to estimate the memory for."""
    training, on_cpu = spec.training, not spec.runtime.gpus_per_node
    steps = total_steps(training, rows.rows)
    room, cpu, estimates, biases = None, None, [], None
    if model:
        keep = training.checkpoint.keep
        room = Room(room_needed(model.adapter_bytes, tokenizer_bytes, keep), checkpoint_room(model.adapter_bytes, keep))
        estimates = [estimate(model.parameters, model.shape, training, rows.longest, gpu) for gpu in gpus]
        cpu = plan_step(training, model.shape, rows.longest, None) if on_cpu else None
        biases = bias_advice(model.biases)
    return RunPlan(
        spec=spec,
        rows=rows,
        steps=steps,
        steps_of_a_pass=-(-rows.rows // training.batch_size),
        warmup_steps=warmup_steps(training, steps)[0],
        optimizer=optimizer_on(_CPU if on_cpu else _GPU, training),
        model=model,
        room=room,
        on_cpu=cpu,
        estimates=estimates,
        advice=[*rows.advice, *spec_advice(spec, rows.rows), *([biases] if biases else [])],
    )
