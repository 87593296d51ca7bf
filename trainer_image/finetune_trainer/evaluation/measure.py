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
from finetune_trainer.evaluation.metrics.order_consistency import OrderMetric, TwoOrders
from finetune_trainer.evaluation.outcome import Outcome
from finetune_trainer.evaluation.questions import Question

NO_OPTIONS = "the rows have no options"
NO_OTHER_ORDER = "with its options in another order the row is longer than the model's context"
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
    reasons = {index: _why_not(metric, outcome, index) for index in places}
    counted = [index for index, reason in reasons.items() if reason is None]
    if not counted:
        return Measured(metric, MetricStatus(name=metric.name, omitted=_why_not_any(list(reasons.values()))), {})
    try:
        rows = {name: _rows(metric, outcome, name, counted) for name in outcome.sides}
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


def _why_not(metric: Metric[Any], outcome: Outcome, index: int) -> str | None:
    reason = metric.why_not(outcome.questions[index])
    if reason or not isinstance(metric, OrderMetric):
        return reason
    twin = _twins(outcome).get(outcome.questions[index].row)
    return NO_OTHER_ORDER if twin is None else metric.why_not(twin[1])


def _twins(outcome: Outcome) -> dict[int, tuple[int, Question]]:
    """By row, the question with the options in another order, and its place among these."""
    questions = outcome.reordered.questions if outcome.reordered else ()
    return {question.row: (index, question) for index, question in enumerate(questions)}


def _in_two_orders(metric: OrderMetric, outcome: Outcome, name: str, counted: list[int]) -> dict[int, TwoOrders]:
    other = outcome.reordered
    assert other, "a metric of two orders counts rows that were scored in both"
    twins = _twins(outcome)
    places = {index: twins[outcome.questions[index].row][0] for index in counted}
    own_rows = _rows(metric.chooser, outcome, name, counted)
    other_rows = _rows(metric.chooser, other, name, list(places.values()))
    return {
        index: metric.row((outcome.questions[index], own_rows[index]), (other.questions[place], other_rows[place]))
        for index, place in places.items()
    }


def _why_not_any(reasons: list[str | None]) -> str:
    if not reasons:
        return NO_ANSWERS
    if set(reasons) == {choice.NO_OPTIONS}:
        return NO_OPTIONS
    return cut(f"it can't be had on any row: {reasons[0]}", _MAX_REASON)


def _rows(metric: Metric[Any], outcome: Outcome, name: str, counted: list[int]) -> dict[int, Any]:
    """What a metric keeps of the questions that count, of the model of that name."""
    if isinstance(metric, OrderMetric):
        return _in_two_orders(metric, outcome, name, counted)
    questions, side = outcome.questions, outcome.sides[name]
    if isinstance(metric, AnswerMetric):
        answers = dict(zip(outcome.answered_places, side.answers, strict=True))
        return {index: metric.row(questions[index], answers[index]) for index in counted}
    table = side.scores.table
    assert isinstance(metric, LikelihoodMetric), "a metric looks at likelihoods or at answers"
    return {
        index: metric.row(questions[index], questions[index].group_of(metric.needs, table[index])) for index in counted
    }
