"""What rows give away: guessing, one letter, repeated texts."""

from __future__ import annotations

import pytest

from finetune_trainer.data.example import Choice, Choices, Example
from finetune_trainer.evaluation.baselines import baselines, baselines_document, baselines_line, rows_advice


def row(right: str, texts: tuple[str, ...] = ("one", "two", "three", "four")) -> Example:
    options = tuple(Choice(letter, text, f"It is {text}.") for letter, text in zip("ABCD", texts, strict=False))
    return Example(choices=Choices(options, "ABCD".index(right)))


def test_without_a_model_the_most_frequent_letter_or_a_guess_is_right_so_often() -> None:
    found = baselines([row("A"), row("C"), row("C"), row("B", ("one", "two"))])
    assert found
    assert (found.letter, found.always_letter) == ("C", 0.5)
    assert found.guessing == pytest.approx((3 * 0.25 + 0.5) / 4)
    assert baselines_document(found) == {"guessing": 0.3125, "mostFrequentLetter": {"letter": "C", "share": 0.5}}
    assert baselines_line(found) == (
        "without a model: guessing is right in 0.312 of the rows, always saying C in 0.500"
    )


def test_a_repeated_text_is_as_right_under_its_other_letter() -> None:
    found = baselines([row("A", ("one", "two", "one", "four")), row("C"), row("C")])
    assert found
    assert (found.letter, found.always_letter) == ("C", 1.0)
    assert found.guessing == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_rows_without_options_have_no_baseline_and_no_advice() -> None:
    assert baselines([Example(), Example()]) is None
    assert list(rows_advice([Example()])) == []


def test_rows_that_all_have_one_letter_right_are_an_advice() -> None:
    (advice,) = rows_advice([row("A"), row("A"), row("A")])
    assert advice.reason == "OneRightLetter"
    assert advice.message.startswith("A is right in all 3 held-out rows")
    assert "shuffle the options" in advice.message
    assert list(rows_advice([row("A"), row("B")])) == []
    assert list(rows_advice([row("A")])) == []


def test_rows_whose_right_text_stands_twice_are_an_advice() -> None:
    (advice,) = rows_advice([row("A", ("one", "one", "two", "three")), row("B"), row("C", ("one", "one", "two"))])
    assert advice.reason == "RepeatedOptions"
    assert "of 1 of 3 held-out rows" in advice.message
