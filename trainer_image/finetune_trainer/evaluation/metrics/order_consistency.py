"""OrderConsistency: whether a model chooses the same option where the options stand in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from finetune_api.results import MetricValue
from finetune_trainer.evaluation.metrics.accuracy import Accuracy
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric, Chosen, choices_of
from finetune_trainer.evaluation.metrics.letter_accuracy import LetterAccuracy
from finetune_trainer.evaluation.metrics.share import flag, share_of
from finetune_trainer.evaluation.questions import Question


@dataclass(frozen=True)
class TwoOrders:
    """What a model chose in the row's own order and in the other one, and whether it was the same text."""

    own: Chosen
    other: Chosen
    other_letter: str  # of the other order's choice, there
    same: bool


class OrderMetric(Metric[TwoOrders]):
    """The share of rows on which a metric that chooses an option chooses the same text again in another order.

    Where one of these is named, rows are scored a second time with their options moved round.
    """

    chooser: ClassVar[ChoiceMetric]

    def why_not(self, question: Question) -> str | None:
        return self.chooser.why_not(question)

    def row(self, own: tuple[Question, Chosen], other: tuple[Question, Chosen]) -> TwoOrders:
        """From a row and its choice in either order."""
        (before, first), (after, second) = own, other
        moved = choices_of(after).options[second.option]
        return TwoOrders(first, second, moved.letter, choices_of(before).options[first.option].text == moved.text)

    def value(self, rows: Sequence[TwoOrders]) -> MetricValue:
        return share_of([row.same for row in rows])

    def details(self, rows: Sequence[TwoOrders]) -> dict[str, Any]:
        return {
            "ownOrder": self.chooser.value([row.own for row in rows]).to_api(),
            "otherOrder": self.chooser.value([row.other for row in rows]).to_api(),
        }

    def document(self, question: Question, row: TwoOrders) -> dict[str, Any]:
        return {"same": row.same, "otherOrder": {"option": row.other_letter, "right": row.other.right}}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        return flag(document, "same")


_DEFINITION = (
    "share of rows on which the model chooses the option of the same text, {}, when all options are moved round by "
    "some places, so that each stands under another letter: 0 for who goes by letters alone, 1 for who goes by texts "
    "alone"
)


class OrderConsistency(OrderMetric):
    """By likelihood."""

    name = "OrderConsistency"
    label = "same in another order "
    definition = _DEFINITION.format("by likelihood as in Accuracy")
    chooser = Accuracy()


class LetterOrderConsistency(OrderMetric):
    """By letter."""

    name = "LetterOrderConsistency"
    label = "letter's text same in another order "
    definition = _DEFINITION.format("by letter as in LetterAccuracy")
    chooser = LetterAccuracy()
