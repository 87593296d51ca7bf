"""What metrics have in common that let a model choose one option per row: a share of right rows, McNemar's test."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.base import number
from finetune_api.results import Interval, MetricValue, PairedTest
from finetune_trainer.data.example import Choices
from finetune_trainer.evaluation.metrics.base import LikelihoodMetric, Likelihoods, Test
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.statistics import mcnemar_exact, wilson_interval


@dataclass(frozen=True)
class Chosen:
    """The option that a model chose, by its index, and whether it is the right one."""

    option: int
    right: bool


class ChoiceMetric(LikelihoodMetric[Chosen]):
    """The share of rows whose right option has the highest score."""

    def why_not(self, question: Question) -> str | None:
        return None if question.choices else "the row has no options"

    @abstractmethod
    def scores(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        """A score per option; the highest is the model's choice."""

    def row(self, question: Question, likelihoods: Likelihoods) -> Chosen:
        scores = self.scores(question, likelihoods)
        option = scores.index(max(scores))
        return Chosen(option, choices_of(question).is_right(option))

    def value(self, rows: Sequence[Chosen]) -> MetricValue:
        right, n = sum(row.right for row in rows), len(rows)
        low, high = wilson_interval(right, n)
        return MetricValue(value=number(right / n), interval95=Interval(low=number(low), high=number(high)))

    def compare(self, base: Sequence[Chosen], tuned: Sequence[Chosen]) -> Test:
        pairs = Counter((one.right, other.right) for one, other in zip(base, tuned, strict=True))
        base_only, tuned_only = pairs[True, False], pairs[False, True]
        paired = PairedTest(name="McNemar exact", base_only=base_only, tuned_only=tuned_only)
        return Test(paired, mcnemar_exact(base_only, tuned_only))

    def margin(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        return self.scores(question, likelihoods)

    def document(self, question: Question, row: Chosen) -> dict[str, Any]:
        return {"option": choices_of(question).options[row.option].letter, "right": row.right}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        right = document.get("right")
        return right if isinstance(right, bool) else None


def choices_of(question: Question) -> Choices:
    """A question's options. Raises ValueError where it has none."""
    if question.choices is None:
        raise ValueError("a row without options counts in no accuracy: why_not() says so")
    return question.choices
