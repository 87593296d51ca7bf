"""Shares of answers in words that went wrong in a way of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from finetune_api.results import MetricValue
from finetune_trainer.evaluation.answers import Names
from finetune_trainer.evaluation.metrics.base import AnswerMetric, Test
from finetune_trainer.evaluation.metrics.choice import NO_OPTIONS
from finetune_trainer.evaluation.metrics.share import flag, mcnemar, share_of
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Question


class AnswerRate(AnswerMetric[bool]):
    """The share of answers that have a fault. A row that a model has right, in the paired test, is one without it."""

    better = "Lower"

    @abstractmethod
    def is_faulty(self, answer: Generated) -> bool:
        """Whether an answer has it."""

    def row(self, question: Question, answer: Generated) -> bool:
        return self.is_faulty(answer)

    def value(self, rows: Sequence[bool]) -> MetricValue:
        return share_of(rows)

    def compare(self, base: Sequence[bool], tuned: Sequence[bool]) -> Test:
        return mcnemar([not row for row in base], [not row for row in tuned])

    def document(self, question: Question, row: bool) -> dict[str, Any]:
        return {"counts": row}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        return flag(document, "counts")


class InvalidAnswerRate(AnswerRate):
    """Answers that name an option that isn't there, such as F of A to E."""

    name = "InvalidAnswerRate"
    label = "invalid "
    definition = (
        "share of rows whose answer in words names an option that isn't there, such as F of A to E; answers that name "
        "none at all, or were cut before they did, don't count; lower is better"
    )

    def why_not(self, question: Question) -> str | None:
        return None if question.choices else NO_OPTIONS

    def is_faulty(self, answer: Generated) -> bool:
        return answer.reading is not None and answer.reading.names is Names.NO_SUCH_OPTION


class EmptyAnswerRate(AnswerRate):
    """Answers that say nothing."""

    name = "EmptyAnswerRate"
    label = "empty "
    definition = "share of answers in words without any visible character; lower is better"

    def is_faulty(self, answer: Generated) -> bool:
        return is_empty(answer.text)


class CutAnswerRate(AnswerRate):
    """Answers that came to no end of their own."""

    name = "CutAnswerRate"
    label = "cut "
    definition = (
        "share of answers in words that had not ended at maxNewTokens, or at the model's context; lower is better"
    )

    def is_faulty(self, answer: Generated) -> bool:
        return answer.cut


def is_empty(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return not any(char.isprintable() and not char.isspace() for char in text)
