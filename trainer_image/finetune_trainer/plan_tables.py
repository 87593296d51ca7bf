"""What a job would do as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_api.defaults import ResolvedLora, ResolvedSpec
from finetune_api.sources import claims_written
from finetune_trainer.models.adapter_targets import AdapterLayers
from finetune_trainer.models.methods import METHODS
from finetune_trainer.run_plan import Room, RunPlan
from finetune_trainer.training.estimate import CUDA_BYTES, GIB, Estimate
from finetune_trainer.whole_tables import print_whole

_MIB = 1 << 20


def print_plan(plan: RunPlan) -> None:
    """Prints all that is known of a job before it runs."""
    console = Console(highlight=False)
    for part in _parts(plan):
        print_whole(console, part)
        console.print()


def _parts(plan: RunPlan) -> Iterable[RenderableType]:
    yield _run(plan)
    if plan.model is None:
        yield Text("the model's own code wants its weights: neither parameters nor memory are known before", "yellow")
    else:
        if plan.model.layers:
            yield _layers(plan.model.layers)
        yield _memory(plan)
    if plan.advice:
        yield Group(*(Text.assemble((f"{entry.reason}: ", "yellow"), entry.message) for entry in plan.advice))


def _run(plan: RunPlan) -> Table:
    spec, training = plan.spec, plan.spec.training
    table = _table("plan", "")
    table.add_row("rows", plan.rows.summary)
    table.add_row("longest row", f"{plan.rows.longest:,} tokens")
    most = "at most " if training.early_stopping else ""
    table.add_row("steps", f"{most}{plan.steps:,}, {_passes(plan)}")
    table.add_row("warm-up", f"{plan.warmup_steps:,} steps to {training.learning_rate}, then {training.scheduler}")
    table.add_row("batch", f"{training.batch_size:,} rows in a step")
    table.add_row("method", f"{spec.method}, the base model {METHODS[spec.method].precision}")
    table.add_row("optimizer", plan.optimizer)
    if spec.lora:
        table.add_row("adapter", _adapter(spec.lora))
    if spec.model.adapter:
        table.add_row("continues from", spec.model.adapter.source)
    if plan.parameters:
        trained, total = plan.parameters.trained, plan.parameters.total
        table.add_row("parameters", f"{trained:,} of {total:,} are trained ({trained / total:.2%})")
    if plan.room:
        table.add_row("room to write", _room(plan.room, spec))
    if plan.on_cpu:
        table.add_row(
            "on the CPU", f"{plan.on_cpu.micro_batch} rows at a time, checkpointing {plan.on_cpu.checkpointing}"
        )
    return table


def _room(room: Room, spec: ResolvedSpec) -> str:
    output, *apart = claims_written(spec)
    if apart:
        return f"up to {_size(room.artefacts)} on claim {output}, {_size(room.checkpoints)} on claim {apart[0]}"
    return f"up to {_size(room.artefacts + room.checkpoints)}, {_size(room.checkpoints)} in checkpoints"


def _adapter(lora: ResolvedLora) -> str:
    parts = [f"rank {lora.rank}, alpha {lora.alpha}, bias {lora.bias}"]
    if lora.rank_stabilized:
        parts.append("rank-stabilized")
    if lora.initialization != "Default":
        parts.append(f"initialized by {lora.initialization}")
    return ", ".join(parts)


def _passes(plan: RunPlan) -> str:
    if plan.spec.training.max_steps is None:
        return f"{plan.spec.training.epochs} epochs of {plan.steps_of_a_pass:,}"
    return f"{plan.steps / plan.steps_of_a_pass:.1f} epochs of {plan.steps_of_a_pass:,}"


def _layers(layers: Iterable[AdapterLayers]) -> Table:
    table = _table("adapter on", "layers", "in", "out", "parameters")
    for one in layers:
        table.add_row(one.name, f"{one.count:,}", f"{one.inputs:,}", f"{one.outputs:,}", f"{one.parameters:,}")
    return table


def _memory(plan: RunPlan) -> Table:
    table = _table("GPU memory", "rows at\na time", "checkpointing", "frozen", "trained", "activations", "together")
    table.columns[0].min_width = None  # for 80 columns to suffice
    for one in plan.estimates:
        table.add_row(f"{one.gpu / GIB:g} GiB", *_cells(one), style="" if one.fits else "red")
    table.caption = (
        "an estimate from shapes and the longest row, no measurement:\n"
        f"activations are an upper bound, and {CUDA_BYTES / GIB:g} GiB for CUDA itself is in together"
    )
    if held := plan.estimates[0].consolidation if plan.estimates else 0:
        table.caption = f"{table.caption},\nand so are {_size(held)} for elastic weight consolidation"
    return table


def _cells(one: Estimate) -> list[str]:
    together = _size(one.together) + ("" if one.fits else ": too much")
    return [
        f"{one.step.micro_batch:,} of {one.step.batch:,}",
        one.step.checkpointing,
        *map(_size, (one.frozen, one.trained, one.activations)),
        together,
    ]


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB" if count >= GIB else f"{count / _MIB:,.1f} MiB"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, caption_justify="left", header_style="dim")
    table.add_column(first, min_width=14)
    for name in others:
        table.add_column(Text(name), justify="right" if name else "left")
    return table
