"""Perplexity of the right response, or of a document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_api.base import number
from finetune_api.results import MetricValue
from finetune_trainer.evaluation.metrics.base import LikelihoodMetric, Likelihoods, Numbers
from finetune_trainer.evaluation.questions import Group, Question
from finetune_trainer.evaluation.statistics import perplexity


@dataclass(frozen=True)
class ResponseLikelihood:
    """Log-likelihood of a right response, terminator included, and its tokens."""

    log_likelihood: float
    tokens: int


class Perplexity(LikelihoodMetric[ResponseLikelihood]):
    """exp of the mean negative log-likelihood per token, over the tokens that the training loss counts."""

    name = "Perplexity"
    better = "Lower"
    label = "perplexity "
    definition = (
        "exp of the mean negative log-likelihood per token of the right responses, end of turn included; where a row "
        "has no options, of each of its responses; of a document, of all tokens but the first, in windows of "
        "model.maxSequenceLength"
    )
    needs = Group.RESPONSES
    better = "Lower"
    relative = True

    def row(self, question: Question, likelihoods: Likelihoods) -> ResponseLikelihood:
        right = likelihoods[question.right]
        return ResponseLikelihood(math.fsum(right), len(right))

    def value(self, rows: Sequence[ResponseLikelihood]) -> MetricValue:
        total = math.fsum(row.log_likelihood for row in rows)
        return MetricValue(value=number(perplexity(total, sum(row.tokens for row in rows))))

    def document(self, question: Question, row: ResponseLikelihood) -> dict[str, Any]:
        return {"rightLogLikelihood": round(row.log_likelihood, 4), "rightTokens": row.tokens}

    def sums(self, document: Mapping[str, Any]) -> tuple[float, ...] | None:
        total, tokens = document.get("rightLogLikelihood"), document.get("rightTokens")
        if not isinstance(total, int | float) or not isinstance(tokens, int | float):
            return None
        return float(total), float(tokens)

    def of_sums(self, sums: Numbers) -> Numbers:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-sums[..., 0] / sums[..., 1]))
