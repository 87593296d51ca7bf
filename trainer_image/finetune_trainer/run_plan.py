"""What a job would do, put together from its spec, its rows and its model's shape. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.results import Advice
from finetune_trainer.models.adapter_targets import AdapterLayers
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.sizes import Sizes
from finetune_trainer.stage.device import Device
from finetune_trainer.training.estimate import Estimate, Parameters, estimate, parameters_of
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
    measured: int = 0  # rows that are scored on the way


@dataclass(frozen=True)
class ModelToTrain:
    """A model whose weights need not be there, and what would be trained of it."""

    shape: ModelShape
    sizes: Sizes
    linear: int  # parameters that NF4 takes
    layers: Sequence[AdapterLayers]  # none of method Full
    biases: int  # bias vectors that are trained with them

    @property
    def held(self) -> int:
        """Weights that elastic weight consolidation looks at: those of the layers, or all."""
        return sum(one.inputs * one.outputs * one.count for one in self.layers) or self.sizes.base


@dataclass(frozen=True)
class Room:
    """What a run may write, in bytes."""

    artefacts: int
    checkpoints: int


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
    parameters: Parameters | None
    room: Room | None
    on_cpu: StepPlan | None  # of a job that asks for no GPU
    estimates: Sequence[Estimate]  # a GPU each
    advice: Sequence[Advice]


def plan_run(
    spec: ResolvedSpec, rows: RowsToTrainOn, model: ModelToTrain | None, tokenizer_bytes: int, gpus: Sequence[int]
) -> RunPlan:
    """What a job would do; ``gpus`` are sizes in bytes of GPUs to estimate the memory for."""
    training, on_cpu = spec.training, not spec.runtime.gpus_per_node
    steps, optimizer = total_steps(training, rows.rows), optimizer_on(_CPU if on_cpu else _GPU, training)
    room, cpu, estimates, parameters, biases = None, None, [], None, None
    if model:
        held = model.held if training.elastic_weight_consolidation else 0
        parameters = parameters_of(METHODS[spec.method], model.sizes, model.linear, held)
        room = Room(model.sizes.room_needed(spec, tokenizer_bytes), model.sizes.checkpoint_room(spec, optimizer))
        estimates = [estimate(parameters, model.shape, training, rows.longest, gpu) for gpu in gpus]
        cpu = plan_step(training, model.shape, rows.longest, None) if on_cpu else None
        biases = bias_advice(model.biases)
    return RunPlan(
        spec=spec,
        rows=rows,
        steps=steps,
        steps_of_a_pass=-(-rows.rows // training.batch_size),
        warmup_steps=warmup_steps(training, steps)[0],
        optimizer=optimizer,
        model=model,
        parameters=parameters,
        room=room,
        on_cpu=cpu,
        estimates=estimates,
        advice=[*rows.advice, *spec_advice(spec, rows.rows, rows.measured), *([biases] if biases else [])],
    )
