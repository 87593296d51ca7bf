"""The accuracies by the rules of lm-evaluation-harness, from likelihoods whose answer is known."""

from __future__ import annotations

import pytest

from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.questions import Question

# A short response, a longer one, and one whose characters take two bytes each.
TEXTS = ("It is tea.", "It is lemon oil.", "It is äöüäöüäöü.")
RESPONSES = [[1, 2, 9], [1, 3, 4, 9], [1, 5, 6, 9]]
END = -50.0  # of the end of the turn, which doesn't count


def question_of(right: int = 0) -> Question:
    options = tuple(Choice(letter, text[6:-1], text) for letter, text in zip("ABC", TEXTS, strict=True))
    return Question([0], RESPONSES, [], 1, Choices(options, right))


def likelihoods_of(*totals: float) -> list[list[float]]:
    """Each response's sum spread over its tokens, the shared first one included."""
    return [[total / (len(ids) - 1)] * (len(ids) - 1) + [END] for total, ids in zip(totals, RESPONSES, strict=True)]


def scores(name: str, *totals: float) -> list[float]:
    return METRICS[name].scores(question_of(), likelihoods_of(*totals))  # type: ignore[attr-defined]


def test_the_sum_is_of_the_whole_response_with_what_all_options_share_and_without_the_end_of_the_turn() -> None:
    assert scores("SumAccuracy", -4.0, -5.0, -9.0) == pytest.approx([-4.0, -5.0, -9.0])


def test_it_is_divided_by_the_characters_or_the_bytes_of_the_whole_response() -> None:
    assert scores("CharacterAccuracy", -4.0, -5.0, -9.0) == pytest.approx([-4 / 10, -5 / 16, -9 / 16])
    assert scores("ByteAccuracy", -4.0, -5.0, -9.0) == pytest.approx([-4 / 10, -5 / 16, -9 / 25])


def test_each_rule_may_choose_another_option() -> None:
    """The short one by its sum; per character the second; per byte the one of two bytes a character."""
    likelihoods = likelihoods_of(-4.0, -5.0, -7.0)
    names = ("SumAccuracy", "CharacterAccuracy", "ByteAccuracy")
    chosen = [METRICS[name].row(question_of(1), likelihoods) for name in names]  # type: ignore[attr-defined]
    assert [one.option for one in chosen] == [0, 1, 2]
    assert [one.right for one in chosen] == [False, True, False]
