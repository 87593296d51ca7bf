"""A running job as a live screen for a terminal."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finetune_api.defaults import resolve
from finetune_api.progress import ProgressStatus
from finetune_api.stages import TRAIN
from finetune_cli import text
from finetune_cli.view import (
    View,
    describe_attempts,
    elapsed,
    remaining,
    remark,
    repeated_attempts,
    stage,
    stage_progress,
    stages,
)

BAR_WIDTH = 32
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def render(view: View, now: datetime) -> RenderableType:
    """The whole screen: a heading, the stages, and what the current one says."""
    return Group(heading(view, now), Text(), _stages(view, now), *_remarks(view))


def heading(view: View, now: datetime) -> Text:
    """The job's name, what it trains, and since when."""
    job = view.job
    spec = resolve(job.spec)
    parts = [
        job.metadata.namespace,
        spec.model.source,
        f"{spec.method} rank {spec.lora.rank}" if spec.lora else spec.method,
    ]
    since = elapsed(job, now)
    return Text.assemble(
        text.text(job.metadata.name, "bold"), text.text("  " + " · ".join(parts + ([since] if since else [])), "dim")
    )


def _stages(view: View, now: datetime) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(min_width=11)
    table.add_column()
    names = stages(view.job)
    current = names.index(stage(view.job)) if stage(view.job) in names else len(names)
    for index, name in enumerate(names):
        if index < current:
            table.add_row(Text("✔", "green"), Text(name), Text())
        elif index == current:
            table.add_row(Text(_spinner(now), "cyan"), Text(name, "bold"), _current(view, now))
        else:
            table.add_row(Text("·", "dim"), Text(name, "dim"), Text())
    return table


def _spinner(now: datetime) -> str:
    return SPINNER[int(now.timestamp() * 8) % len(SPINNER)]


def _current(view: View, now: datetime) -> RenderableType:
    """What the current stage says: a bar and its numbers, or why it does not start."""
    said = remark(view.job)
    progress = stage_progress(view.job)
    if said.is_hindrance or progress is None:
        advice = [text.text(f"→ {said.advice}", "dim")] if said.advice else []
        return Group(text.text(said.text, "yellow" if said.is_hindrance else "dim"), *advice)
    bar = ProgressBar(total=100, completed=progress.percent, width=BAR_WIDTH, complete_style="cyan")
    row = Table.grid(padding=(0, 2))
    left = remaining(view, now)
    row.add_row(
        bar, text.text(progress.summary or ""), Text(f"{progress.percent}%"), text.text(f"ETA {left}" if left else "")
    )
    # While evaluating, loss and learning rate are training's last.
    return Group(row, _numbers(progress, view.losses)) if progress.stage == TRAIN.name else row


def _numbers(progress: ProgressStatus, losses: tuple[float, ...]) -> Text:
    rate, speed = progress.learning_rate, progress.tokens_per_second
    parts = [
        _pair("loss", text.decimal(progress.loss), text.sparkline(losses)) if progress.loss else None,
        _pair("learning rate", text.decimal(rate, 3)) if rate else None,
        _pair("tokens/s", f"{speed:,}") if speed else None,
    ]
    return Text("   ").join(part for part in parts if part)


def _pair(name: str, value: str, trend: str = "") -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, "bold"), (f" {trend}" if trend else "", "cyan"))


def _remarks(view: View) -> list[RenderableType]:
    remarks = [describe_attempts(attempts)] if (attempts := repeated_attempts(view.job)) else []
    remarks += [view.notice] if view.notice else []
    return [Text(), *(text.text(remark, "yellow") for remark in remarks)] if remarks else []
