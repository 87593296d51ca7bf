"""Whether figures hold that were measured again, and what else differs between then and now. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from finetune_api.results import MAX_SLICE_STATUSES, EvaluationStatus, MetricStatus, MetricValue, StageLineage

TOLERANCE = 1e-4  # on the same device: absolute up to 1, relative above
# On another device: of a metric without an interval, relative. Rounding in 16 bit or NF4 moves a perplexity by less.
ELSEWHERE = 0.02

_NOT_MEASURED = MetricStatus(name="none")


@dataclass(frozen=True)
class Row:
    """A metric then and now. None where the model was not scored, or the metric had no value."""

    name: str
    base_then: MetricValue | None
    base_now: MetricValue | None
    tuned_then: MetricValue | None
    tuned_now: MetricValue | None


@dataclass(frozen=True)
class Verdict:
    """What came of measuring again."""

    rows: tuple[Row, ...]
    examples: int  # rows scored now
    same_device: bool
    differences: tuple[str, ...]  # in the figures: with any they don't hold
    notes: tuple[str, ...]  # on what ran it: these decide nothing

    @property
    def holds(self) -> bool:
        return not self.differences


def judge(
    report: EvaluationStatus,
    recorded: EvaluationStatus,
    now: EvaluationStatus,
    runner_then: StageLineage,
    runner_now: StageLineage,
) -> Verdict:
    """Compares a report's figures, and those that the result recorded, with new ones.

    On the same device every figure must be equal within TOLERANCE; on another one each value must lie in the 95%
    interval of the former, or within ELSEWHERE of it where it has none.
    """
    same = runner_then.device is not None and runner_then.device == runner_now.device
    notes = (*_not_compared(now), *_notes(runner_then, runner_now))
    differences = (*_not_as_recorded(report, recorded), *_not_as_before(report, now, same))
    return Verdict(tuple(_rows(report, now)), now.examples, same, differences, notes)


@dataclass(frozen=True)
class _Figure:
    text: str
    value: MetricValue | None = None  # a metric's own value; without it a figure that follows from the rows
    is_count: bool = False


def _figures(evaluation: EvaluationStatus) -> dict[str, _Figure]:
    """Every number of an evaluation but its duration, by name."""
    found = {
        "rows scored": _count(evaluation.examples),
        "rows left out": _count(evaluation.dropped_examples),
    }
    if evaluation.shared_examples is not None:
        found["rows shared with the training"] = _count(evaluation.shared_examples)
    for metric in evaluation.metrics:
        found |= _of_metric(metric.name, metric)
    if evaluation.retention:
        found["retention rows scored"] = _count(evaluation.retention.examples)
        for metric in evaluation.retention.metrics:
            found |= _of_metric(f"retention {metric.name}", metric)
    for part in evaluation.slices:
        found[f"slice {part.name} rows scored"] = _count(part.examples)
        for metric in part.metrics:
            found |= _of_metric(f"slice {part.name} {metric.name}", metric)
    return found


def _of_metric(name: str, metric: MetricStatus) -> dict[str, _Figure]:
    found = {}
    for side, value in (("base", metric.base), ("tuned", metric.tuned)):
        if value:
            found[f"{name} {side}"] = _Figure(value.value, value)
            if value.interval95:
                found[f"{name} {side} interval low"] = _Figure(value.interval95.low)
                found[f"{name} {side} interval high"] = _Figure(value.interval95.high)
    if metric.difference is not None:
        found[f"{name} difference"] = _Figure(metric.difference)
    if metric.p_value is not None:
        found[f"{name} p"] = _Figure(metric.p_value)
    if metric.adjusted_p_value is not None:
        found[f"{name} adjusted p"] = _Figure(metric.adjusted_p_value)
    if metric.paired_test:
        found[f"{name} only base right"] = _Figure(str(metric.paired_test.base_only))
        found[f"{name} only tuned right"] = _Figure(str(metric.paired_test.tuned_only))
    if metric.examples is not None:
        found[f"{name} rows"] = _count(metric.examples)
    return found


def _count(number: int) -> _Figure:
    return _Figure(str(number), is_count=True)


def _not_as_recorded(report: EvaluationStatus, recorded: EvaluationStatus) -> Iterator[str]:
    reported, known = _figures(report), _figures(recorded)
    for name in dict.fromkeys((*reported, *known)):
        ours, theirs = reported.get(name), known.get(name)
        if (ours and ours.text) != (theirs and theirs.text):
            yield f"{name}: {_text(ours)} in report.json, {_text(theirs)} in result.json"


def _not_as_before(then: EvaluationStatus, now: EvaluationStatus, same_device: bool) -> Iterator[str]:
    former, latter = _figures(then), _figures(now)
    for name in dict.fromkeys((*former, *latter)):
        before, after = former.get(name), latter.get(name)
        if before is None or after is None:
            agrees = False
        elif same_device or before.is_count:
            agrees = _near(before.text, after.text, TOLERANCE)
        else:
            agrees = before.value is None or _compatible(before.value, after.text)
        if not agrees:
            yield f"{name}: {_text(before)} then, {_text(after)} now"


def _compatible(before: MetricValue, after: str) -> bool:
    if not (bounds := before.interval95):
        return _near(before.value, after, ELSEWHERE)
    return float(bounds.low) <= float(after) <= float(bounds.high)


def _near(before: str, after: str, tolerance: float) -> bool:
    if before == after:  # infinity, too
        return True
    first, second = float(before), float(after)
    return math.isfinite(first) and abs(first - second) <= tolerance * max(1.0, abs(first))


def _text(figure: _Figure | None) -> str:
    return figure.text if figure else "none"


def _rows(then: EvaluationStatus, now: EvaluationStatus) -> Iterator[Row]:
    former, latter = _metrics(then), _metrics(now)
    for name in dict.fromkeys((*former, *latter)):
        before, after = former.get(name, _NOT_MEASURED), latter.get(name, _NOT_MEASURED)
        yield Row(name, before.base, after.base, before.tuned, after.tuned)


def _metrics(evaluation: EvaluationStatus) -> dict[str, MetricStatus]:
    found = {metric.name: metric for metric in evaluation.metrics}
    if evaluation.retention:
        found |= {f"retention {metric.name}": metric for metric in evaluation.retention.metrics}
    for part in evaluation.slices:
        found |= {f"slice {part.name} {metric.name}": metric for metric in part.metrics}
    return found


def _not_compared(evaluation: EvaluationStatus) -> Iterator[str]:
    """What of slices and own prompts stands in the report alone."""
    if any(part.metrics for part in evaluation.slices):
        most = len(evaluation.slices) == MAX_SLICE_STATUSES
        others = f", nor slices beyond the {MAX_SLICE_STATUSES} of status" if most else ""
        yield f"of slices the first metric was compared, the others of report.json not{others}"


def _notes(then: StageLineage, now: StageLineage) -> Iterator[str]:
    former, latter = _facts(then), _facts(now)
    for name in dict.fromkeys((*former, *latter)):
        if former.get(name) != latter.get(name):
            yield f"{name}: {former.get(name) or 'none'} then, {latter.get(name) or 'none'} now"


def _facts(runner: StageLineage) -> dict[str, str | None]:
    versions = [one.partition("==") for one in (runner.packages or "").split()]
    facts = {"device": runner.device, "image": runner.image, "trainer": runner.trainer_version}
    return {**facts, **{name: version for name, _, version in versions}}
