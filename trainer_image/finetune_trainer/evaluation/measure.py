"""From likelihoods and answers to a metric: its value for each model, their difference, and if it could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_api.base import cut, number
from finetune_api.results import MetricStatus
from finetune_trainer.evaluation.metrics import choice
from finetune_trainer.evaluation.metrics.base import AnswerMetric, LikelihoodMetric, Metric, NotMeasurableError
from finetune_trainer.evaluation.outcome import Outcome, Side

NO_OPTIONS = "the rows have no options"
NO_ANSWERS = "documents are not answered in words"
_P_VALUE_DIGITS = 3
_MAX_REASON = 256


@dataclass(frozen=True)
class Measured:
    """A metric's entry in status, and what it keeps of each question that counts, by model and index."""

    metric: Metric[Any]
    status: MetricStatus
    rows: Mapping[str, Mapping[int, Any]]


def measure(metric: Metric[Any], outcome: Outcome) -> Measured:
    """One metric of base and tuned, on the rows that it can be had on."""
    answers = isinstance(metric, AnswerMetric)
    places = outcome.answered_places if answers else range(len(outcome.questions))
    reasons = {index: metric.why_not(outcome.questions[index]) for index in places}
    counted = [index for index, reason in reasons.items() if reason is None]
    if not counted:
        return Measured(metric, MetricStatus(name=metric.name, omitted=_why_not_any(list(reasons.values()))), {})
    try:
        rows = {name: _rows(metric, outcome, side, counted) for name, side in outcome.sides.items()}
    except NotMeasurableError as error:
        return Measured(metric, MetricStatus(name=metric.name, omitted=cut(str(error), _MAX_REASON)), {})
    tuned = metric.value(list(rows["tuned"].values()))
    status = MetricStatus(name=metric.name, tuned=tuned, examples=len(counted) if len(counted) < len(reasons) else None)
    if "base" in rows:
        base = metric.value(list(rows["base"].values()))
        difference = float(tuned.value) - float(base.value)
        update: dict[str, Any] = {"base": base, "difference": number(difference) if math.isfinite(difference) else None}
        if test := metric.compare(list(rows["base"].values()), list(rows["tuned"].values())):
            update |= {"paired_test": test.paired, "p_value": number(test.p_value, _P_VALUE_DIGITS)}
        status = status.model_copy(update=update)
    return Measured(metric, status, rows)


def _why_not_any(reasons: list[str | None]) -> str:
    if not reasons:
        return NO_ANSWERS
    if set(reasons) == {choice.NO_OPTIONS}:
        return NO_OPTIONS
    return cut(f"it can't be had on any row: {reasons[0]}", _MAX_REASON)


def _rows(metric: Metric[Any], outcome: Outcome, side: Side, counted: list[int]) -> dict[int, Any]:
    questions, table = outcome.questions, side.scores.table
    if isinstance(metric, AnswerMetric):
        answers = dict(zip(outcome.answered_places, side.answers, strict=True))
        return {index: metric.row(questions[index], answers[index]) for index in counted}
    assert isinstance(metric, LikelihoodMetric), "a metric looks at likelihoods or at answers"
    return {
        index: metric.row(questions[index], questions[index].group_of(metric.needs, table[index])) for index in counted
    }
