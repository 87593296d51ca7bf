"""Base against tuned, as a table, a test and the same prompts answered by both."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_api.results import EvaluationStatus, Interval, ModelScores, PairedTest, SampleAnswer
from finetune_cli import text


def render_evaluation(evaluation: EvaluationStatus) -> RenderableType:
    """The evaluation of a job."""
    parts: list[RenderableType] = [_scores(evaluation)]
    if evaluation.paired_test:
        parts.append(_test(evaluation.paired_test))
    if evaluation.report_uri:
        parts.append(Text.assemble(("report ", "dim"), text.text(evaluation.report_uri)))
    if evaluation.samples:
        heading = "The same prompt, answered by both" if evaluation.base else "Prompts, answered by the tuned model"
        parts += [Text(), Text(heading, "bold")]
    parts += [_sample(sample, bool(evaluation.base)) for sample in evaluation.samples]
    return Group(*parts)


def _scores(evaluation: EvaluationStatus) -> Table:
    base, tuned = evaluation.base, evaluation.tuned
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"{evaluation.examples} held-out rows")
    if base:
        table.add_column("base", justify="right")
    table.add_column("tuned", justify="right", style="bold")
    if base:
        table.add_column("gain", justify="right")
    for row in (
        _accuracy("accuracy", "accuracy", base, tuned),
        _accuracy("letter accuracy", "letter_accuracy", base, tuned),
        _perplexity(base, tuned),
    ):
        if row:
            table.add_row(*row)
    return table


def _accuracy(title: str, name: str, base: ModelScores | None, tuned: ModelScores) -> list[Text] | None:
    if getattr(tuned, name) is None:
        return None
    cells = [_proportion(scores, name) for scores in (base, tuned) if scores]
    gain = [_gain(getattr(base, name), getattr(tuned, name))] if base else []
    return [Text(title), *cells, *gain]


def _proportion(scores: ModelScores, name: str) -> Text:
    interval: Interval | None = getattr(scores, f"{name}_interval95")
    between = f" [{text.percent(interval.low)} – {text.percent(interval.high)}]" if interval else ""
    return Text.assemble(text.percent(getattr(scores, name)), (between, "dim not bold"))


def _gain(base: str | None, tuned: str | None) -> Text:
    gain = text.points(base, tuned)
    return Text(gain, "green" if gain.startswith("+") else "red")


def _perplexity(base: ModelScores | None, tuned: ModelScores) -> list[Text] | None:
    if tuned.perplexity is None:
        return None
    cells = [Text(text.decimal(scores.perplexity, 3)) for scores in (base, tuned) if scores]
    return [Text("perplexity"), *cells, *([Text()] if base else [])]


def _test(test: PairedTest) -> Text:
    return text.text(
        f"{test.name}: p = {text.decimal(test.p_value, 2)}; "
        f"{test.tuned_only} rows only tuned had right, {test.base_only} only base; brackets are 95% intervals",
        "dim",
    )


def _sample(sample: SampleAnswer, with_base: bool) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=8, style="dim")
    table.add_column(overflow="fold")
    table.add_row("prompt", text.text(sample.prompt.strip()))
    table.add_row("expected", text.text(sample.expected.strip(), "green"))
    if with_base:
        table.add_row("base", _answer(sample.base, sample.base_invented))
    table.add_row("tuned", _answer(sample.tuned, sample.tuned_invented))
    return Padding(table, (1, 0, 0, 2))


def _answer(answer: str, invented: bool) -> Text:
    shown = text.text(answer.strip() or "(nothing)")
    return Text.assemble(shown, (" (no such option)", "red")) if invented else shown
