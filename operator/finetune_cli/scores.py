"""Base against tuned, as a table, a test and the same prompts answered by both."""

from __future__ import annotations

import re
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_api.gate_verdicts import FAILED, PASSED
from finetune_api.results import (
    Answer,
    EvaluationStatus,
    GateStatus,
    LatencyStatus,
    MetricStatus,
    MetricValue,
    SampleAnswer,
    SliceStatus,
)
from finetune_cli import text
from finetune_cli.judgements import render_judge

_VERDICTS = {PASSED: ("✔", "green"), FAILED: ("✘", "red")}


# From 0 to 100, and no share of rows.
_SCORES = ("BLEU", "ChrF")


def render_evaluation(evaluation: EvaluationStatus) -> RenderableType:
    """The evaluation of a job."""
    shown = [metric for metric in evaluation.metrics if metric.base or metric.tuned]
    with_base = any(metric.base for metric in shown) or any(sample.base for sample in evaluation.samples)
    parts: list[RenderableType] = [_scores(_rows(evaluation), shown, with_base)]
    if any(value and value.interval95 for metric in shown for value in (metric.base, metric.tuned)):
        parts.append(Text("brackets are 95% intervals", "dim"))
    parts += [line for metric in evaluation.metrics for line in _remarks(metric)]
    if evaluation.retention:
        heading = f"{evaluation.retention.examples} retention rows"
        parts += [Text(), _scores(heading, evaluation.retention.metrics, with_base)]
    if evaluation.slices:
        parts += [Text(), *_slices(evaluation.slices, with_base)]
    if evaluation.latency:
        parts += [Text(), _latency(evaluation.latency)]
    if evaluation.gates:
        parts += [Text(), *(_gate(gate) for gate in evaluation.gates)]
    if evaluation.judge:
        parts += [Text(), *render_judge(evaluation.judge)]
    if evaluation.report_uri:
        parts.append(Text.assemble(("report ", "dim"), text.text(evaluation.report_uri)))
    if evaluation.page_uri:
        parts.append(Text.assemble(("page   ", "dim"), "kubectl finetune report saves it"))
    if evaluation.samples:
        heading = "The same prompt, answered by both" if with_base else "Prompts, answered by the tuned model"
        parts += [Text(), Text(heading, "bold")]
    parts += [_sample(sample) for sample in evaluation.samples]
    return Group(*parts)


def _slices(slices: list[SliceStatus], with_base: bool) -> list[RenderableType]:
    """A row for each slice, with the metric that stands in status."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    names = {one.metrics[0].name for one in slices if one.metrics}
    shared = f", {title(names.pop())}" if len(names) == 1 else ""
    table.add_column(f"slice{shared}", overflow="fold")
    for heading in ("rows", *(["base"] if with_base else []), "tuned", *(["change", "p"] if with_base else [])):
        table.add_column(heading, justify="right", style="bold" if heading == "tuned" else "")
    for one in slices:
        found = one.metrics[0] if one.metrics else MetricStatus(name="none")
        values = [found.base, found.tuned] if with_base else [found.tuned]
        cells = [_value(value, _is_share(found)) for value in values]
        if with_base:
            cells += [_change(found), Text(text.decimal(found.adjusted_p_value, 2) if found.adjusted_p_value else "")]
        few = " (few)" if one.warning else ""
        metric = f", {title(found.name)}" if one.metrics and not shared else ""
        table.add_row(text.text(one.name + metric), Text(f"{one.examples}{few}"), *cells)
    told = [Text("p is adjusted for the number of slices (Holm)", "dim")] if with_base else []
    warnings = dict.fromkeys(one.warning for one in slices if one.warning)
    return [table, *told, *(text.text(f"few: {warning}", "dim") for warning in warnings)]


def _latency(measured: list[LatencyStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("one prompt at a time")
    for heading in ("weights", "first token", "then"):
        table.add_column(heading, justify="right")
    for one in measured:
        first, speed = text.decimal(one.first_token_milliseconds, 3), text.decimal(one.tokens_per_second, 3)
        table.add_row(Text(title(one.name)), text.text(one.precision), f"{first} ms", f"{speed} tokens/s")
    return table


def title(metric: str) -> str:
    """A metric's name for people: LetterAccuracy becomes 'letter accuracy'."""
    return text.clean(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric)).lower()


def _scores(heading: str, metrics: list[MetricStatus], with_base: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(heading)
    if with_base:
        table.add_column("base", justify="right")
    table.add_column("tuned", justify="right", style="bold")
    if with_base:
        table.add_column("change", justify="right")
    for metric in metrics:
        values = [metric.base, metric.tuned] if with_base else [metric.tuned]
        change = [_change(metric)] if with_base else []
        table.add_row(Text(title(metric.name)), *(_value(value, _is_share(metric)) for value in values), *change)
    return table


def _rows(evaluation: EvaluationStatus) -> str:
    dropped = f", {evaluation.dropped_examples} dropped" if evaluation.dropped_examples else ""
    return f"{evaluation.examples} held-out rows{dropped}"


def _is_share(metric: MetricStatus) -> bool:
    """Whether a metric is a proportion of rows, which people read as a percentage."""
    intervals = [value.interval95 for value in (metric.base, metric.tuned) if value]
    return metric.name not in _SCORES and (any(intervals) or metric.name.endswith(("Accuracy", "Rate")))


def _value(value: MetricValue | None, share: bool) -> Text:
    if value is None:
        return Text("-")
    shown = text.percent if share else partial(text.decimal, digits=3)
    interval = value.interval95
    between = f" [{shown(interval.low)} – {shown(interval.high)}]" if interval else ""
    return Text.assemble(shown(value.value), (between, "dim not bold"))


def _change(metric: MetricStatus) -> Text:
    if not (metric.base and metric.tuned):
        return Text()
    if not _is_share(metric):  # whether more is better depends on the metric
        return Text(text.signed(metric.difference))
    gain = text.points(metric.base.value, metric.tuned.value)
    less_is_better = metric.name.endswith("Rate")  # of what went wrong
    return Text(gain, "green" if gain.startswith("-" if less_is_better else "+") else "red")


def _remarks(metric: MetricStatus) -> list[Text]:
    test = metric.paired_test
    chance = f"p = {text.decimal(metric.p_value, 2)}" if metric.p_value else ""
    parts = [
        f"left out: {metric.omitted}" if metric.omitted else "",
        f"of {metric.examples} rows" if metric.examples is not None else "",
        f"{test.name} {chance}".strip() if test else chance,
        f"{test.tuned_only} rows only tuned had right, {test.base_only} only base" if test else "",
    ]
    said = "; ".join(part for part in parts if part)
    return [text.text(f"{title(metric.name)}: {said}", "dim")] if said else []


def _gate(gate: GateStatus) -> Text:
    """Such as 'passed accuracy: tuned 0.447 …'; a verdict of a newer trainer is shown in its own word."""
    mark, style = _VERDICTS.get(gate.verdict, ("?", "yellow"))
    said = f": {gate.message}" if gate.message else ""
    head = text.text(f"{mark} {title(gate.verdict)}", style)
    return Text.assemble(head, " ", text.text(f"{title(gate.metric)}{said}"))


def _sample(sample: SampleAnswer) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=8, style="dim")
    table.add_column(overflow="fold")
    named = (f"{text.clean(sample.name)}: ", "dim") if sample.name else ""
    table.add_row("prompt", Text.assemble(named, text.text(sample.prompt.strip())))
    if sample.expected:
        table.add_row("expected", text.text(sample.expected.strip(), "green"))
    for name, answer in (("base", sample.base), ("tuned", sample.tuned)):
        if answer:
            table.add_row(name, _answer(answer))
    return Padding(table, (1, 0, 0, 2))


def _answer(answer: Answer) -> Text:
    if answer.names is None:  # the row has no options that it could name
        return text.text(answer.text.strip() or "(nothing)")
    said = {"NoSuchOption": "no such option", "Nothing": "names no option"}.get(answer.names)
    if answer.names == "Option":
        letter = f"option {answer.option}" if answer.option else "an option"
        said = letter if answer.right is None else f"{letter}, {'right' if answer.right else 'wrong'}"
    style = "green" if answer.right else "red"
    return Text.assemble(text.text(answer.text.strip() or "(nothing)"), text.text(f" ({said or answer.names})", style))
