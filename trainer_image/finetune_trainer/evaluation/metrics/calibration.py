"""CalibrationError: whether a model is right as often as it is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_api.base import number
from finetune_api.results import MetricValue
from finetune_trainer.evaluation.metrics.base import LikelihoodMetric, Likelihoods, Numbers
from finetune_trainer.evaluation.metrics.choice import choices_of
from finetune_trainer.evaluation.metrics.harness_accuracy import response_sums
from finetune_trainer.evaluation.questions import Group, Question
from finetune_trainer.evaluation.statistics import Bin, expected_calibration_error, reliability_bins


@dataclass(frozen=True)
class Confidence:
    """How sure a model is of the option that it chose (0 to 1), and whether that is the right one."""

    probability: float
    right: bool


class CalibrationError(LikelihoodMetric[Confidence]):
    """Expected calibration error of the probabilities of the options' texts.

    A model's probability of an option is that of its whole response among the responses of the row: the softmax of the
    sums of log-likelihoods, as for lm-evaluation-harness's brier_score. A mean per token, as Accuracy takes, is no
    log-probability of anything.
    """

    name = "CalibrationError"
    label = "calibration error "
    definition = (
        "expected calibration error (Guo et al. 2017) in 10 bins of equal width, from 0 (best) to 1: the mean "
        "distance, over rows, between the probability of the likeliest option and the share of rows of like "
        "probability in which it is right; probabilities are the softmax over options of the summed log-likelihoods of "
        "SumAccuracy; options of one text count together"
    )
    needs = Group.RESPONSES
    better = "Lower"

    def why_not(self, question: Question) -> str | None:
        return None if question.choices else "the row has no options"

    def row(self, question: Question, likelihoods: Likelihoods) -> Confidence:
        sums, choices = response_sums(question, likelihoods), choices_of(question)
        option = sums.index(max(sums))
        weights = [math.exp(one - max(sums)) for one in sums]
        text = choices.options[option].text
        same = [weight for weight, one in zip(weights, choices.options, strict=True) if one.text == text]
        return Confidence(math.fsum(same) / math.fsum(weights), choices.is_right(option))

    def value(self, rows: Sequence[Confidence]) -> MetricValue:
        return MetricValue(value=number(expected_calibration_error(_bins(rows))))

    def details(self, rows: Sequence[Confidence]) -> dict[str, Any]:
        return {"bins": [_bin_document(one) for one in _bins(rows) if one.rows]}

    def margin(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        return response_sums(question, likelihoods)

    def document(self, question: Question, row: Confidence) -> dict[str, Any]:
        return {"probability": round(row.probability, 4), "right": row.right}

    def sums(self, document: Mapping[str, Any]) -> tuple[float, ...] | None:
        """For each bin: how much surer the model was than right, summed over its rows; and the row itself."""
        probability, right = document.get("probability"), document.get("right")
        if not isinstance(probability, int | float) or not isinstance(right, bool):
            return None
        bins = reliability_bins([(float(probability), right)])
        return (*((one.confidence - one.accuracy) * one.rows for one in bins), 1.0)

    def of_sums(self, sums: Numbers) -> Numbers:
        return np.asarray(np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1])


def _bins(rows: Sequence[Confidence]) -> list[Bin]:
    return reliability_bins([(row.probability, row.right) for row in rows])


def _bin_document(one: Bin) -> dict[str, Any]:
    return {
        "from": one.low,
        "to": one.high,
        "rows": one.rows,
        "meanProbability": round(one.confidence, 4),
        "shareRight": round(one.accuracy, 4),
    }
