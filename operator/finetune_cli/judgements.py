"""What a judge thinks of the answers, as a table and a few lines."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from finetune_api.judge_status import JudgePreference, JudgeStatus
from finetune_api.values import MetricValue
from finetune_cli import text


def render_judge(judge: JudgeStatus) -> list[RenderableType]:
    """The judge of an evaluation: points by criterion, preferences, and how far it can be relied on."""
    parts: list[RenderableType] = []
    if judge.scores:
        parts.append(_points(judge))
    if judge.preference:
        parts.append(_preference(judge.preference))
    for one in judge.agreement:
        alpha = "always the same" if one.alpha is None else f"alpha {text.decimal(one.alpha, 2)}"
        parts.append(text.text(f"{one.name.lower()}: asked again, {text.percent(one.equal)} equal, {alpha}", "dim"))
    counts = ((judge.unusable, "unusable"), (judge.unanswered, "without a reply"), (judge.unjudged, "not asked for"))
    told = ", ".join([f"{judge.judged} judgements", *(f"{count} {name}" for count, name in counts if count)])
    message = f" ({judge.message})" if judge.message else ""
    style = "" if judge.outcome == "Complete" else "yellow"
    return [*parts, text.text(f"judge {judge.model}: {told}{message}", style)]


def _points(judge: JudgeStatus) -> Table:
    with_base = any(score.base for score in judge.scores)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("judged, 1 to 5")
    if with_base:
        table.add_column("base", justify="right")
    table.add_column("tuned", justify="right", style="bold")
    if with_base:
        table.add_column("change", justify="right")
        table.add_column("p", justify="right", style="dim")
    for score in judge.scores:
        sides = [_value(one) for one in ([score.base, score.tuned] if with_base else [score.tuned])]
        change = [text.signed(score.difference), text.decimal(score.p_value, 2)] if with_base else []
        table.add_row(text.text(score.name.lower()), *sides, *change)
    return table


def _value(value: MetricValue | None) -> Text:
    if value is None:
        return Text("-")
    ends = value.interval95
    between = f" [{text.decimal(ends.low, 3)} – {text.decimal(ends.high, 3)}]" if ends else ""
    return Text.assemble(text.decimal(value.value, 3), (between, "dim not bold"))


def _preference(pairs: JudgePreference) -> Text:
    chance = f", p = {text.decimal(pairs.p_value, 2)}" if pairs.p_value else ""
    swayed = f"; {pairs.swayed} swayed by the order" if pairs.swayed else ""
    return text.text(f"preferred: tuned {pairs.tuned}, base {pairs.base}, tie {pairs.tie}{chance}{swayed}")
