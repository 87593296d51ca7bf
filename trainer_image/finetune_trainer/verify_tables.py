"""A verdict on figures as a table for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune_api.results import MetricValue
from finetune_trainer.verification import ELSEWHERE, TOLERANCE, Verdict
from finetune_trainer.whole_tables import print_whole

_ABSENT = "–"


def print_verdict(verdict: Verdict) -> None:
    """Prints then beside now, what ran it otherwise, and at last whether the figures hold and why not."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("metric")
    for title in ("base then", "base now", "tuned then", "tuned now"):
        table.add_column(title, justify="right")
    for row in verdict.rows:
        values = (row.base_then, row.base_now, row.tuned_then, row.tuned_now)
        table.add_row(row.name, *(Text(_value(value)) for value in values))
    print_whole(console, table)
    console.print()
    for note in verdict.notes:
        console.print(Text(f"note: {note}", "dim"))
    for line in verdict_lines(verdict):
        console.print(Text(line, "green" if verdict.holds else "red"))


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in a line, and what differs in one line each."""
    if not verdict.holds:
        return ["does not hold:", *(f"  {one}" for one in verdict.differences)]
    within = (
        f"equal within {TOLERANCE:g}"
        if verdict.same_device
        else f"on another device within the 95% intervals, or {ELSEWHERE:.0%} where there is none"
    )
    return [f"holds: every figure of {verdict.examples} rows is {within}"]


def _value(value: MetricValue | None) -> str:
    return value.value if value else _ABSENT
