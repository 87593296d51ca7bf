"""What a job without training rows would evaluate, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune_trainer.data.load import Rows
from finetune_trainer.evaluation_plan import EvaluationPlan
from finetune_trainer.models.methods import METHODS
from finetune_trainer.whole_tables import print_whole


def print_evaluation(plan: EvaluationPlan) -> None:
    """Prints what would be scored; the models, too, where they were looked at."""
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(min_width=14)
    table.add_column()
    for name, value in _lines(plan):
        table.add_row(name, Text(value))
    print_whole(console, table)
    for entry in plan.advice:
        console.print(Text.assemble((f"{entry.reason}: ", "yellow"), entry.message))


def _lines(plan: EvaluationPlan) -> Iterator[tuple[str, str]]:
    spec = plan.spec
    yield "trained", "nothing: the job has no dataset, and evaluates alone"
    if plan.tokenizer:
        yield "base model", f"{spec.model.source}, {METHODS[spec.method].precision}"
        yield "evaluated", spec.model.adapter.source if spec.model.adapter else "the model itself"
        yield "tokenizer", plan.tokenizer
    yield "held-out rows", _rows(plan.rows)
    if plan.dropped:
        yield "left out", f"{plan.dropped:,} rows are longer than the model's context"
    if plan.retention:
        yield "retention rows", _rows(plan.retention)
    if evaluation := spec.evaluation:
        yield "scored", "base and tuned" if evaluation.compare_with_base else "tuned alone"
        yield "metrics", ", ".join(evaluation.metrics)


def _rows(rows: Rows) -> str:
    return f"{len(rows.examples):,} of {rows.name}"
