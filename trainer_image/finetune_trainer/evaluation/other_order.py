"""The held-out rows once more, with their options in another order."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.row_formats import MultipleChoiceRows
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats.multiple_choice import moved_round
from finetune_trainer.evaluation.questions import Group, Question, make_questions


def in_other_order(example: Example, rows: MultipleChoiceRows) -> Example:
    """A row with options, each of them under another letter.

    How many places they move is drawn from the row's digest, so that it is the same in every evaluation of the row,
    and no place of the right option becomes more frequent than another.
    """
    assert example.choices, "only rows with options have another order"
    return moved_round(example, 1 + int(example.sha256, 16) % (len(example.choices.options) - 1), rows)


def questions_in_other_order(
    examples: Sequence[Example],
    dataset: EvaluationDatasetSpec,
    chat: ChatFormat,
    groups: set[Group],
    context: int | None,
) -> list[Question]:
    """What is scored of rows with options in another order; each question's ``row`` counts among ``examples``.

    Left out are those that exceed the ``context`` in tokens: another order may have a token more. Rows of a format
    without options have none.
    """
    if not isinstance(dataset, MultipleChoiceRows):
        return []
    found = make_questions([in_other_order(example, dataset) for example in examples], chat, groups)
    return [one for one in found if context is None or one.size.prompt + one.size.continuation <= context]
