"""GeneratedAccuracy: the option that an answer in words names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.results import MetricValue
from finetune_trainer.evaluation.answers import Names
from finetune_trainer.evaluation.metrics.base import AnswerMetric, Test
from finetune_trainer.evaluation.metrics.choice import NO_OPTIONS, choices_of
from finetune_trainer.evaluation.metrics.share import flag, mcnemar, share_of
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Question


@dataclass(frozen=True)
class Named:
    """What an answer names, by its index where that is an option, and whether it is the right one."""

    names: Names
    option: int | None
    right: bool


class GeneratedAccuracy(AnswerMetric[Named]):
    """The share of rows whose answer names the right option; one that names none, or several, is wrong."""

    name = "GeneratedAccuracy"
    label = "generated "
    definition = (
        "share of rows whose answer in words, written greedily, names the right option: by its text, its letter or "
        "both; an answer that names none, several or an invented one is wrong"
    )

    def why_not(self, question: Question) -> str | None:
        return None if question.choices else NO_OPTIONS

    def row(self, question: Question, answer: Generated) -> Named:
        reading = answer.reading
        if reading is None:
            raise ValueError("an answer to a row with options was not read")
        option = reading.option
        return Named(reading.names, option, option is not None and choices_of(question).is_right(option))

    def value(self, rows: Sequence[Named]) -> MetricValue:
        return share_of([row.right for row in rows])

    def compare(self, base: Sequence[Named], tuned: Sequence[Named]) -> Test:
        return mcnemar([row.right for row in base], [row.right for row in tuned])

    def document(self, question: Question, row: Named) -> dict[str, Any]:
        letter = {} if row.option is None else {"option": choices_of(question).options[row.option].letter}
        return {"names": row.names.value, **letter, "right": row.right}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        return flag(document, "right")
