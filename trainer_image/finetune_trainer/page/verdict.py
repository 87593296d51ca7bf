"""The page's first words: what was gained, and how far that can be trusted. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finetune_api.results import EvaluationStatus, PairedTest
from finetune_trainer.page.documents import Report
from finetune_trainer.page.figures_of_metrics import Change, Metric
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.text import counted, sentence, short

_ADVICE_LENGTH = 512
_ALREADY_TOLD = ("SharedQuestions", "RoundingDecides")


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    change: Change
    gained: str  # one sentence
    chance: str  # one sentence: whether that is more than chance
    metric: Metric | None  # what it speaks of: the first metric with a value
    trust: tuple[str, ...]  # what else tells how far to believe it


def verdict_of(inputs: Inputs) -> Verdict:
    """The verdict of an evaluation, by its first metric that has a value."""
    evaluation = inputs.report.evaluation
    measured = [Metric(one) for one in evaluation.metrics if one.tuned]
    if not measured:
        return Verdict(Change.NONE, "No metric has a value on these rows.", "", None, tuple(_trust(inputs, None)))
    first = measured[0]
    return Verdict(first.change, _gained(first, evaluation), _chance(first), first, tuple(_trust(inputs, first)))


def _gained(metric: Metric, evaluation: EvaluationStatus) -> str:
    rows = metric.status.examples if metric.status.examples is not None else evaluation.examples
    name, on = sentence(metric.title), f"on {counted(rows, 'held-out row')}"
    if not metric.status.base:
        interval = f" (95% interval {metric.tuned_interval})" if metric.tuned_interval else ""
        return f"{name} of the tuned model is {metric.tuned}{interval} {on}."
    difference = metric.difference
    if not difference or difference.startswith("±0"):
        return f"{name} is {metric.base} for the base model and {metric.tuned} for the tuned one, {on}."
    verb = "rose" if difference.startswith("+") else "fell"
    amount = difference.lstrip("+−")
    return f"{name} {verb} by {amount}, from {metric.base} to {metric.tuned}, {on}."


def _chance(metric: Metric) -> str:
    status = metric.status
    if not status.base:
        return "The base model was not scored, so nothing says what was gained."
    if status.p_value is None:
        return "No test tells whether that is more than chance."
    test = f" ({short(status.paired_test.name, 60)}, {metric.p_told})" if status.paired_test else f" ({metric.p_told})"
    rows = _discordant(status.paired_test) if status.paired_test else ""
    if metric.is_significant:
        return f"Chance alone would rarely do that{test}.{rows}"
    return f"That may well be chance{test}.{rows}"


def _discordant(test: PairedTest) -> str:
    if not test.base_only + test.tuned_only:
        return " Both models had the same rows right."
    return f" Only the tuned model had {counted(test.tuned_only, 'row')} right, only the base model {test.base_only:,}."


def _trust(inputs: Inputs, metric: Metric | None) -> Iterator[str]:
    report = inputs.report
    evaluation = report.evaluation
    if metric and metric.half_width is not None:
        half = f"{metric.half_width * 100:.0f} points" if metric.is_share else f"{metric.half_width:.2g}"
        yield f"With {counted(evaluation.examples, 'row')} the tuned model's figure is known to about ±{half} (95%)."
    yield _shared(evaluation)
    if evaluation.dropped_examples:
        left = counted(evaluation.dropped_examples, "held-out row was", "held-out rows were")
        yield f"{left} left out: longer than the model's context, or without a response to score."
    yield from _baselines(report)
    yield from _rounding(report)
    yield from _advice(inputs)


def _shared(evaluation: EvaluationStatus) -> str:
    # Absent where nothing is known of the training rows.
    if evaluation.shared_examples is None or "shared_examples" not in evaluation.model_fields_set:
        return "Whether held-out rows were among the training rows is not known."
    if not evaluation.shared_examples:
        return "No held-out row asks what a training row asks."
    shared, rows = evaluation.shared_examples, counted(evaluation.examples, "held-out row")
    return f"{shared:,} of {rows} ask what a training row asks: there the figures show memory, not skill."


def _baselines(report: Report) -> Iterator[str]:
    if found := report.baselines:
        always = found.most_frequent_letter
        letter = f", and always saying {short(always.letter, 16)} in {always.share:.1%}" if always else ""
        yield f"Without a model, guessing is right in {found.guessing:.1%} of the rows{letter}."


def _rounding(report: Report) -> Iterator[str]:
    told = [
        f"{one.checked - one.different:,} of {counted(one.checked, 'checked row')} of {short(name, 20)}"
        for name, one in report.agreement.items()
        if one.checked
    ]
    if told:
        yield f"Scoring in batches decided as one row at a time does: {', '.join(told)}."


def _advice(inputs: Inputs) -> list[str]:
    results = [one for one in (inputs.training, inputs.result) if one]
    told = {one.message: one.reason for result in results for one in result.advice if one.reason not in _ALREADY_TOLD}
    return [sentence(short(message, _ADVICE_LENGTH).rstrip(".")) + "." for message in told]
