"""A comparison of runs as tables for a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune_api.base import cut
from finetune_api.results import ArtefactStatus, MetricValue, TrainingStatus
from finetune_trainer.finished_runs import FinishedRun
from finetune_trainer.run_comparison import Comparison, Difference, evaluation_of, metric_of
from finetune_trainer.whole_tables import print_whole

_ABSENT = "–"
_LONGEST = 60  # characters of a spec's value

Show = Callable[[FinishedRun], str]


def print_comparison(comparison: Comparison) -> None:
    """Prints in what the specs differ, then what the runs came to: a column for each."""
    console = Console(highlight=False)
    for note in comparison.notes:
        console.print(Text(note, "yellow"))
    if comparison.notes:
        console.print()
    if comparison.differences:
        _print(console, _differences(comparison.names, comparison.differences))
        console.print()
    elif comparison.differences is not None:
        console.print(Text("the specs are the same", "dim"))
        console.print()
    _print(console, _figures(comparison))


def _print(console: Console, table: Table) -> None:
    """On a terminal cells are folded to its width, and a file takes any width."""
    if console.is_terminal:
        console.print(table)
    else:
        print_whole(console, table)


def _differences(names: tuple[str, ...], differences: tuple[Difference, ...]) -> Table:
    table = _table("spec", names)
    for one in differences:
        table.add_row(one.field, *(Text(_value(value)) for value in one.values))
    return table


def _figures(comparison: Comparison) -> Table:
    table = _table("run", comparison.names)
    for title, show in _rows(comparison):
        cells = [show(run) for run in comparison.runs]
        if any(cells):
            table.add_row(title, *(Text(cell or _ABSENT) for cell in cells))
    return table


def _rows(comparison: Comparison) -> Iterator[tuple[str, Show]]:
    yield "steps", _training(lambda one: f"{one.steps:,}")
    yield "time", _training(lambda one: one.runtime or f"{one.runtime_seconds}s")
    yield "first loss", _training(lambda one: one.first_loss or "")
    yield "final loss", _training(lambda one: one.final_loss or "")
    yield "validation loss", _training(lambda one: one.validation_loss or "")
    yield "best step", _training(lambda one: _count(one.best_step or 0))
    yield "trainable parameters", _training(lambda one: _count(one.trainable_parameters))
    yield "total parameters", _training(lambda one: _count(one.total_parameters))
    yield "peak memory", lambda run: run.training.memory.summary if run.training.memory else ""
    yield "engine", _training(lambda one: one.engine or "")
    yield "dtype", _training(lambda one: one.dtype or "")
    yield "optimizer", _training(lambda one: one.optimizer or "")
    yield "attention", _training(lambda one: one.attention or "")
    yield "micro-batch", _training(lambda one: _count(one.micro_batch_size))
    yield "checkpointing", _training(lambda one: one.gradient_checkpointing or "")
    yield "out of GPU memory", _training(lambda one: _times(one.out_of_memory_retries))
    yield "adapter", lambda run: _saved(run.training.adapter)
    yield "merged model", lambda run: _saved(run.training.model)
    yield "held-out rows", lambda run: _count(evaluation_of(run).examples)
    for name in comparison.metrics():
        yield f"{name} base", _metric(name, "base")
        yield f"{name} tuned", _metric(name, "tuned")
        yield f"{name} p", _p_value(name)


def _training(show: Callable[[TrainingStatus], str]) -> Show:
    return lambda run: show(run.training.training) if run.training.training else ""


def _metric(name: str, model: str) -> Show:
    def show(run: FinishedRun) -> str:
        metric = metric_of(run, name)
        if metric is None:
            return ""
        value: MetricValue | None = getattr(metric, model)
        if value is None:
            return f"left out: {metric.omitted}" if metric.omitted and model == "tuned" else ""
        return _metric_value(value)

    return show


def _metric_value(value: MetricValue) -> str:
    """A proportion and its interval to three places, anything else as it was measured."""
    if not (bounds := value.interval95):
        return value.value
    return f"{float(value.value):.3f} [{float(bounds.low):.3f}, {float(bounds.high):.3f}]"


def _p_value(name: str) -> Show:
    def show(run: FinishedRun) -> str:
        metric = metric_of(run, name)
        return (metric.p_value or "") if metric else ""

    return show


def _saved(artefact: ArtefactStatus | None) -> str:
    return f"{artefact.size_bytes / 1e6:,.1f} MB" if artefact else ""


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _times(number: int | None) -> str:
    return f"{number}×" if number else ""


def _value(value: object) -> str:
    """A spec's value as YAML would show it, on one line."""
    if value is None:
        return _ABSENT
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(" ".join(text.split()), _LONGEST)


def _table(first: str, names: tuple[str, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, min_width=22)
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table
