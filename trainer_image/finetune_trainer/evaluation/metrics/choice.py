"""What metrics have in common that let a model choose one option per row: a share of right rows, McNemar's test."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.results import MetricValue
from finetune_trainer.data.example import Choices
from finetune_trainer.evaluation.metrics.base import LikelihoodMetric, Likelihoods, Test
from finetune_trainer.evaluation.metrics.share import flag, mcnemar, share_of
from finetune_trainer.evaluation.questions import Question

NO_OPTIONS = "the row has no options"


@dataclass(frozen=True)
class Chosen:
    """The option that a model chose, by its index, and whether it is the right one."""

    option: int
    right: bool


class ChoiceMetric(LikelihoodMetric[Chosen]):
    """The share of rows whose right option has the highest score."""

    def why_not(self, question: Question) -> str | None:
        return None if question.choices else NO_OPTIONS

    @abstractmethod
    def scores(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        """A score per option; the highest is the model's choice."""

    def row(self, question: Question, likelihoods: Likelihoods) -> Chosen:
        scores = self.scores(question, likelihoods)
        option = scores.index(max(scores))
        return Chosen(option, choices_of(question).is_right(option))

    def value(self, rows: Sequence[Chosen]) -> MetricValue:
        return share_of([row.right for row in rows])

    def compare(self, base: Sequence[Chosen], tuned: Sequence[Chosen]) -> Test:
        return mcnemar([row.right for row in base], [row.right for row in tuned])

    def margin(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        return self.scores(question, likelihoods)

    def document(self, question: Question, row: Chosen) -> dict[str, Any]:
        return {"option": choices_of(question).options[row.option].letter, "right": row.right}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        return flag(document, "right")


def choices_of(question: Question) -> Choices:
    """A question's options. Raises ValueError where it has none."""
    if question.choices is None:
        raise ValueError("a row without options counts in no accuracy: why_not() says so")
    return question.choices
