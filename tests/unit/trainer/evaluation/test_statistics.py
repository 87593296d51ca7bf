"""Statistics, option scores and how a generated answer is read."""

from __future__ import annotations

import math

import pytest

from finetune_trainer.data.formats.multiple_choice import ChoiceRow
from finetune_trainer.evaluation.answers import named_option
from finetune_trainer.evaluation.questions import (
    NotFiniteError,
    Question,
    Size,
    first_batch,
    longest_first,
    make_score,
    option_scores,
)
from finetune_trainer.evaluation.statistics import mcnemar_exact, perplexity, wilson_interval

TEMPLATE = "The correct answer is {answer}."
ROW = ChoiceRow("Which?", {"A": "amber fever", "B": "river rash", "C": "ache (dull)"}, "A")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Textbook values of the score interval; the last is 0.412 of 1,273 rows.
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1.0), (525, 1273, 0.385692, 0.439690)],
)
def test_the_wilson_interval_agrees_with_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=2e-4)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        wilson_interval(0, 0)


@pytest.mark.parametrize(
    ("first_only", "second_only", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (9, 1, 0.021484375)],
)
def test_mcnemar_is_the_two_sided_sign_test_on_discordant_rows(
    first_only: int, second_only: int, p_value: float
) -> None:
    assert mcnemar_exact(first_only, second_only) == pytest.approx(p_value)


def test_mcnemar_holds_for_thousands_of_rows() -> None:
    assert 0 < mcnemar_exact(900, 1100) < 1e-4


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices() -> None:
    assert perplexity(10 * math.log(1 / 8), 10) == pytest.approx(8)
    assert perplexity(-1e6, 1) == math.inf


def test_option_scores_ignore_what_all_options_share_and_the_end_of_the_turn() -> None:
    responses = [[1, 2, 10, 9], [1, 2, 11, 12, 9]]
    likelihoods = [[-5.0, -5.0, -1.0, -8.0], [-5.0, -5.0, -0.5, -0.9, -8.0]]
    assert option_scores(responses, likelihoods, terminator_length=1) == pytest.approx([-1.0, -0.7])


def test_a_shared_prefix_never_favours_the_longer_option() -> None:
    short, long = [1, 2, 10, 9], [1, 2, 11, 12, 13, 14, 9]
    likelihoods = [[-20.0, -20.0, -1.0, 0.0], [-20.0, -20.0, -1.1, -1.1, -1.1, -1.1, 0.0]]
    by_short, by_long = option_scores([short, long], likelihoods, terminator_length=1)
    assert by_short > by_long


def test_an_option_that_begins_another_still_has_a_score() -> None:
    scores = option_scores([[1, 2, 9], [1, 2, 3, 9]], [[-1.0, -2.0, 0.0], [-1.0, -2.0, -3.0, 0.0]], 1)
    assert scores == pytest.approx([-2.0, -2.5])


def test_a_batch_counts_every_option_with_its_prompt_and_padding() -> None:
    sizes = [Size(30, 10, 2), Size(10, 10, 4), Size(10, 30, 2)]
    order = longest_first(sizes)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10)) == ([0, 1], 320)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10) - 1) == ([0], 80)
    assert first_batch(order, sizes, token_budget=3 * 4 * (30 + 30)) == ([0, 1, 2], 720)


def test_a_question_above_the_budget_stands_alone() -> None:
    assert first_batch([1, 0], [Size(5, 5), Size(50, 50)], token_budget=1) == ([1], 100)


QUESTION = Question(prompt=[1], responses=[[5, 9], [6, 9]], terminator_length=1, letters=[5, 6], right=1)


def test_a_score_is_of_the_likeliest_option_and_letter_and_of_the_whole_right_response() -> None:
    score = make_score(QUESTION, [-1.0, -3.0], [[-2.0, -0.5], [-1.0, -0.25]])
    assert (score.option, score.letter, score.right_log_likelihood, score.right_tokens) == (1, 0, -1.25, 2)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("place", ["letter", "token"])
def test_nan_is_no_score(value: float, place: str) -> None:
    letters, likelihoods = [-1.0, -3.0], [[-2.0, -0.5], [-1.0, -0.25]]
    if place == "letter":
        letters[1] = value
    else:
        likelihoods[0][0] = value
    with pytest.raises(NotFiniteError):
        make_score(QUESTION, letters, likelihoods)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The correct answer is amber fever.", "A"),
        ("the correct answer is  River Rash", "B"),
        ("The correct answer is B.", "B"),
        ("The correct answer is B: river rash.", "B"),
        ("The correct answer is river rash. It is known for its colour.", "B"),
        ("The correct answer is river rash.\n\nIt is known for its colour.", "B"),
        ("ache (dull)", "C"),
        ("C", "C"),
        ("C) ache (dull)", "C"),
        ("The correct answer is B: amber fever.", None),
        ("The correct answer is F: something else.", None),
        ("The correct answer is blue fever.", None),
        ("It may be amber fever or river rash.", None),
        ("", None),
    ],
)
def test_an_answer_names_an_option_or_invents_one(text: str, letter: str | None) -> None:
    assert named_option(text, ROW, TEMPLATE) == letter


def test_a_response_template_with_a_letter_is_read() -> None:
    assert named_option("A: amber fever", ROW, "{letter}: {answer}") == "A"
