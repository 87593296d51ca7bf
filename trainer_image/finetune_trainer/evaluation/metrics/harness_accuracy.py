"""The accuracies that lm-evaluation-harness prints, by its rules: acc, acc_norm and acc_bytes.

The whole filled response template is the continuation, as a choice of its multiple_choice tasks is: what all options
begin with counts, too, in the likelihood and in the length. Left out is the terminator, which it doesn't score.
"""

from __future__ import annotations

import math
from abc import abstractmethod

from finetune_trainer.evaluation.metrics.base import Likelihoods
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric, choices_of
from finetune_trainer.evaluation.questions import Group, Question


def response_sums(question: Question, likelihoods: Likelihoods) -> list[float]:
    """Log-likelihood (nats) of each option's whole response, without the end of the turn."""
    end = question.terminator_length
    return [math.fsum(values[: len(values) - end]) for values in likelihoods]


class _HarnessAccuracy(ChoiceMetric):
    """The sum of log-likelihoods over a length of the response's text."""

    needs = Group.RESPONSES

    @abstractmethod
    def length(self, response: str) -> int:
        """What the sum is divided by."""

    def scores(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        texts = [option.response for option in choices_of(question).options]
        sums = response_sums(question, likelihoods)
        return [total / self.length(text) for total, text in zip(sums, texts, strict=True)]


class SumAccuracy(_HarnessAccuracy):
    """The likeliest response as it stands, so that short options have an advantage."""

    name = "SumAccuracy"
    label = "sum "
    definition = (
        "share of rows whose right option has the likeliest response: sum of the log-likelihoods of the filled "
        "response template, without the end of the turn; acc of lm-evaluation-harness with that as the choice"
    )

    def length(self, response: str) -> int:
        return 1


class CharacterAccuracy(_HarnessAccuracy):
    """The likeliest response per character."""

    name = "CharacterAccuracy"
    label = "per character "
    definition = (
        "the same sum divided by the characters of the filled response template; acc_norm of lm-evaluation-harness"
    )

    def length(self, response: str) -> int:
        return len(response)


class ByteAccuracy(_HarnessAccuracy):
    """The likeliest response per byte."""

    name = "ByteAccuracy"
    label = "per byte "
    definition = (
        "the same sum divided by the UTF-8 bytes of the filled response template; acc_bytes of lm-evaluation-harness"
    )

    def length(self, response: str) -> int:
        return len(response.encode())
