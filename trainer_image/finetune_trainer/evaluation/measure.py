"""From likelihoods to a metric: its value for each model, their difference, and whether it could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_api.base import cut, number
from finetune_api.results import MetricStatus
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.outcome import Outcome, Side

NO_OPTIONS = "the rows have no options"
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
    reasons = [metric.why_not(question) for question in outcome.questions]
    counted = [index for index, reason in enumerate(reasons) if reason is None]
    if not counted:
        without = all(question.choices is None for question in outcome.questions)
        omitted = NO_OPTIONS if without else cut(f"it can't be had on any row: {reasons[0]}", _MAX_REASON)
        return Measured(metric, MetricStatus(name=metric.name, omitted=omitted), {})
    rows = {name: _rows(metric, outcome, side, counted) for name, side in outcome.sides.items()}
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


def _rows(metric: Metric[Any], outcome: Outcome, side: Side, counted: list[int]) -> dict[int, Any]:
    questions, table = outcome.questions, side.scores.table
    return {
        index: metric.row(questions[index], questions[index].group_of(metric.needs, table[index])) for index in counted
    }
