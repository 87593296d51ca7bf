"""What of a row is scored, and how questions share a batch."""

from __future__ import annotations

import pytest

from finetune_trainer.data.example import Example
from finetune_trainer.evaluation.questions import Question, Size, answerable, first_batch, longest_first, windows


def test_a_batch_counts_every_continuation_with_its_prompt_and_padding() -> None:
    sizes = [Size(30, 10, 2), Size(10, 10, 4), Size(10, 30, 2)]
    order = longest_first(sizes)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10)) == ([0, 1], 320)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10) - 1) == ([0], 80)
    assert first_batch(order, sizes, token_budget=3 * 4 * (30 + 30)) == ([0, 1, 2], 720)


def test_a_question_above_the_budget_stands_alone() -> None:
    assert first_batch([1, 0], [Size(5, 5), Size(50, 50)], token_budget=1) == ([1], 100)


@pytest.mark.parametrize("count", range(1, 14))
@pytest.mark.parametrize("length", [None, 1, 2, 3, 4, 12, 13, 14])
def test_windows_score_each_token_of_a_document_but_the_first_once_behind_what_precedes_it(
    count: int, length: int | None
) -> None:
    ids = list(range(100, 100 + count))
    found = list(windows(ids, length))
    assert [token for _, (scored,) in found for token in scored] == ids[1:]
    for context, (scored,) in found:
        begin = ids.index(scored[0])
        assert context == ids[begin - len(context) : begin]
        assert len(context) >= 1
        assert len(context) + len(scored) == min(count, max(2, count if length is None else length))


def test_a_row_is_answered_in_words_once_at_its_last_response_and_a_document_not_at_all() -> None:
    def question(row: int, text: str | None = None) -> Question:
        return Question([1], [[2]], [], 1, row=row, turn=Example(text=text))

    questions = [question(0), question(0), question(1, "A document."), question(2), question(3)]
    assert answerable(questions) == [1, 3, 4]
    assert answerable([question(0, "A document.")]) == []
