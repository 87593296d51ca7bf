"""What a metric is: what it looks at, what it keeps of a row, and what many rows come to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from finetune_api.results import MetricValue, PairedTest
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Group, Question

# Log-likelihoods (nats) of one group of a question: a list per option, an entry per token.
Likelihoods = Sequence[list[float]]
Row = TypeVar("Row")
Numbers = NDArray[np.float64]


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
    relative: ClassVar[bool] = False  # whether gates take a difference as a share of the value it is compared with

    def why_not(self, question: Question) -> str | None:
        """Why this question doesn't count, or None when it does."""
        return None

    @abstractmethod
    def value(self, rows: Sequence[Row]) -> MetricValue:
        """The metric of one model, from at least one row."""

    def compare(self, base: Sequence[Row], tuned: Sequence[Row]) -> Test | None:
        """A paired test, where the metric has one."""
        return None

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What report.json says of one model beside the value; nothing where the value says it all."""
        return {}

    @abstractmethod
    def document(self, question: Question, row: Row) -> dict[str, Any]:
        """A row's entry in report.json."""

    # Gates judge what stands in report.json, so that two reports can be compared: a share of rows says hit(), any other
    # metric that follows from sums over the rows says sums() and of_sums().

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        """Of a share of rows: whether a row with this entry counts. None of other metrics, and of an entry without."""
        return None

    def sums(self, document: Mapping[str, Any]) -> tuple[float, ...] | None:
        """What is summed up of a row with this entry; None where the metric doesn't follow from sums."""
        return None

    def of_sums(self, sums: Numbers) -> Numbers:
        """The metric from sums over rows: the last axis is that of :meth:`sums`, and goes."""
        raise NotImplementedError


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
