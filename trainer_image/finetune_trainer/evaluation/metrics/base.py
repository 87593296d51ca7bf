"""What a metric is: what it looks at, what it keeps of a row, and what many rows come to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from finetune_api.results import MetricValue, PairedTest
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Group, Question

# Log-likelihoods (nats) of one group of a question: a list per option, an entry per token.
Likelihoods = Sequence[list[float]]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Test:
    """A paired test of base against tuned on the same rows."""

    paired: PairedTest | None  # where it counts rows that only one of the models has right
    p_value: float  # two-sided


class NotMeasurableError(Exception):
    """A metric that can't be had on these rows, and why, in words for the status."""


class Metric(ABC, Generic[Row]):
    """A metric. ``Row`` is what it keeps of one question and model."""

    name: str  # as in spec.evaluation.metrics
    label: str  # before its values in a summary; empty where the number explains itself
    definition: str  # for report.json
    better: ClassVar[Literal["Higher", "Lower"]] = "Higher"

    def why_not(self, question: Question) -> str | None:
        """Why this question doesn't count, or None when it does."""
        return None

    @abstractmethod
    def value(self, rows: Sequence[Row]) -> MetricValue:
        """The metric of one model, from at least one row."""

    def compare(self, base: Sequence[Row], tuned: Sequence[Row]) -> Test | None:
        """A paired test, where the metric has one."""
        return None

    @abstractmethod
    def document(self, question: Question, row: Row) -> dict[str, Any]:
        """A row's entry in report.json."""


class LikelihoodMetric(Metric[Row]):
    """A metric of how likely a model finds texts that are given."""

    needs: ClassVar[Group]

    @abstractmethod
    def row(self, question: Question, likelihoods: Likelihoods) -> Row:
        """What is kept of a question, from the likelihoods of the group that the metric needs."""

    def margin(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        """Scores of which the largest decides, where small errors can change what the row counts as; else nothing."""
        return []


class AnswerMetric(Metric[Row]):
    """A metric of what a model writes. Where a spec names one, all rows are answered, not only the samples.

    Of a conversation its last response counts, of documents nothing.
    """

    @abstractmethod
    def row(self, question: Question, answer: Generated) -> Row:
        """What is kept of a question, from a model's answer in words.

        Raises NotMeasurableError where one answer makes the whole metric impossible.
        """
