"""Statistics against exact fractions and published values."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest

from finetune_trainer.evaluation.statistics import mcnemar_exact, perplexity, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Textbook values of the score interval; the last is 0.412 of 1,273 rows.
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1.0), (525, 1273, 0.385692, 0.439690)],
)
def test_the_wilson_interval_agrees_with_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(("successes", "n"), [(1, 3), (40, 41), (525, 1273), (9999, 10000)])
def test_the_ends_of_the_wilson_interval_are_where_the_score_test_says_so(successes: int, n: int) -> None:
    for end in wilson_interval(successes, n):
        score = (successes / n - end) / math.sqrt(end * (1 - end) / n)
        assert abs(score) == pytest.approx(1.959963984540054, rel=1e-9)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        wilson_interval(0, 0)


def sign_test(first_only: int, second_only: int) -> float:
    """The two-sided sign test with whole numbers of any size."""
    n, fewer = first_only + second_only, min(first_only, second_only)
    term, tail = 1, 0
    for k in range(fewer + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def test_mcnemar_is_the_exact_sign_test_on_discordant_rows() -> None:
    for first_only in range(45):
        for second_only in range(45):
            exact = sign_test(first_only, second_only)
            assert mcnemar_exact(first_only, second_only) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize(
    ("first_only", "second_only"),
    [(900, 1100), (19_900, 20_100), (20_500, 19_500), (19_000, 21_000), (20_000, 20_000), (20_000, 20_001), (0, 900)],
)
def test_mcnemar_is_exact_for_tens_of_thousands_of_rows_within_a_tenth_of_a_second(
    first_only: int, second_only: int
) -> None:
    started = time.process_time()
    found = mcnemar_exact(first_only, second_only)
    assert time.process_time() - started < 0.1
    assert found == pytest.approx(sign_test(first_only, second_only), rel=1e-12)


def test_a_p_value_is_never_zero_however_far_apart_two_models_are() -> None:
    assert 0 < mcnemar_exact(0, 40_000) < 1e-300


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices() -> None:
    assert perplexity(10 * math.log(1 / 8), 10) == pytest.approx(8)
    assert perplexity(-1e6, 1) == math.inf
