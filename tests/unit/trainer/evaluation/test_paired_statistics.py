"""Paired intervals, tests and sample sizes against an independent way of getting each."""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from finetune_trainer.data.power import (
    detectable_gain,
    detectable_shortfall,
    rows_for_gain,
    rows_for_margin,
    showable_margin,
    two_sided,
)
from finetune_trainer.evaluation.paired_statistics import Numbers, bootstrap, swap_test, tango_interval
from finetune_trainer.evaluation.statistics import mcnemar_exact

Z = NormalDist().inv_cdf(0.975)


def likeliest_worse(better: int, worse: int, n: int, difference: float) -> float:
    """The share of worse rows that maximises the trinomial likelihood under a difference, by golden-section search."""

    def log_likelihood(share: float) -> float:
        shares = (share + difference, share, 1 - 2 * share - difference)
        counts = (better, worse, n - better - worse)
        if any(one <= 0 < count for one, count in zip(shares, counts, strict=True)):
            return -math.inf
        return sum(count * math.log(one) for one, count in zip(shares, counts, strict=True) if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        one, other = high - golden * (high - low), low + golden * (high - low)
        low, high = (one, high) if log_likelihood(one) < log_likelihood(other) else (low, other)
    return (low + high) / 2


@pytest.mark.parametrize(("better", "worse", "n"), [(12, 2, 50), (100, 56, 1273), (3, 9, 40), (30, 30, 200), (7, 1, 9)])
def test_the_ends_of_tangos_interval_are_where_the_score_test_just_rejects(better: int, worse: int, n: int) -> None:
    for end in tango_interval(better, worse, n, 0.05):
        share = likeliest_worse(better, worse, n, end)
        deviation = math.sqrt((2 * share + end * (1 - end)) / n)
        assert abs((better - worse) / n - end) / deviation == pytest.approx(Z, rel=1e-5)


def test_tangos_interval_agrees_with_a_published_example() -> None:
    # Cavo and others 2012, 59 both, 6 and 16 discordant, 80 neither: as the R package contingencytables prints it, of
    # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8.
    assert tango_interval(6, 16, 161, 0.05) == pytest.approx((-0.1240, -0.0054), abs=5e-5)


def test_without_a_discordant_row_tangos_interval_is_the_known_closed_form() -> None:
    assert tango_interval(0, 0, 50, 0.05) == pytest.approx((-Z * Z / (50 + Z * Z), Z * Z / (50 + Z * Z)))


def test_tangos_interval_turns_with_the_models_and_stays_within_the_possible() -> None:
    for better, worse, n in product(range(5), range(5), (1, 4, 9)):
        if better + worse <= n:
            low, high = tango_interval(better, worse, n, 0.05)
            assert -1 <= low <= (better - worse) / n <= high <= 1
            assert tango_interval(worse, better, n, 0.05) == pytest.approx((-high, -low), abs=1e-12)
    with pytest.raises(ValueError, match="at least one row"):
        tango_interval(0, 0, 0, 0.05)


@pytest.mark.parametrize(("up", "down"), [(0.15, 0.10), (0.05, 0.05), (0.25, 0.05)])
def test_tangos_interval_covers_the_truth_as_often_as_it_says(up: float, down: float) -> None:
    """Exactly, by all outcomes of 60 rows."""
    n, covered = 60, 0.0
    for better in range(n + 1):
        for worse in range(n + 1 - better):
            rest = n - better - worse
            ways = math.comb(n, better) * math.comb(n - better, worse)
            chance = ways * up**better * down**worse * (1 - up - down) ** rest
            if chance > 1e-9:
                low, high = tango_interval(better, worse, n, 0.05)
                covered += chance * (low <= up - down <= high)
    assert 0.935 <= covered <= 0.975


def power_of_mcnemar(n: int, gain: float, share: float, alpha: float) -> float:
    """The chance that the exact test finds a gain: over all numbers of discordant rows and how they fall."""
    right = (share + gain) / (2 * share)
    found = 0.0
    for rows in range(n + 1):
        log = math.lgamma(n + 1) - math.lgamma(rows + 1) - math.lgamma(n - rows + 1)
        chance = math.exp(log + rows * math.log(share) + (n - rows) * math.log1p(-share))
        if chance < 1e-9:
            continue
        for better in range(rows, rows // 2, -1):
            if mcnemar_exact(better, rows - better) >= alpha:
                break
            ways = math.lgamma(rows + 1) - math.lgamma(better + 1) - math.lgamma(rows - better + 1)
            worse = (rows - better) * math.log1p(-right) if right < 1 else (0.0 if better == rows else -math.inf)
            found += chance * math.exp(ways + better * math.log(right) + worse)
    return found


@pytest.mark.parametrize(("n", "share", "alpha"), [(400, 0.2, 0.05), (1273, 0.2, 0.05), (600, 0.3, 0.01)])
def test_a_detectable_gain_is_found_by_mcnemars_exact_test_in_four_of_five_evaluations(
    n: int, share: float, alpha: float
) -> None:
    # The formula is of the asymptotic test; the exact one is a little more careful.
    assert 0.74 <= power_of_mcnemar(n, detectable_gain(n, share, alpha), share, alpha) <= 0.81


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_rows_and_the_difference_that_they_tell_are_each_others_inverse(alpha: float) -> None:
    for n in (50, 1273, 10_000):
        assert rows_for_gain(detectable_gain(n, 0.25, alpha) * (1 + 1e-12), 0.25, alpha) == n
        assert rows_for_margin(showable_margin(n, 0.25, alpha) * (1 + 1e-12), 0.25, alpha) == n


def test_without_rows_nothing_is_told() -> None:
    assert detectable_gain(0, 0.2) == detectable_gain(10, 0) == showable_margin(0, 0.2) == math.inf
    assert detectable_shortfall(0, 0.2) == math.inf
    assert detectable_shortfall(100, 0.5) == pytest.approx((Z + NormalDist().inv_cdf(0.8)) * 0.05)
    with pytest.raises(ValueError, match="discordant share"):
        rows_for_gain(0.3, 0.2)


def mean(sums: Numbers) -> Numbers:
    return np.asarray(sums[..., 0] / sums[..., 1])


def rows_of(values: list[float]) -> Numbers:
    return np.array([[value, 1.0] for value in values])


def test_a_bootstrap_interval_of_a_mean_is_that_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.5, 400)
    low, high = bootstrap(rows_of(list(values)), mean, 0.05, seed=7)
    half = two_sided(0.05) * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_a_bootstrap_is_the_same_for_the_same_seed_and_holds_when_it_takes_many_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = rows_of([float(one % 7) for one in range(90)])
    first = bootstrap(values, mean, 0.05, seed=7)
    assert bootstrap(values, mean, 0.05, seed=7) == first != bootstrap(values, mean, 0.05, seed=8)
    monkeypatch.setattr("finetune_trainer.evaluation.paired_statistics._AT_A_TIME", 1000)
    assert bootstrap(values, mean, 0.05, seed=7) == first


def test_a_swap_test_gives_the_share_of_all_assignments_that_are_as_far_apart() -> None:
    """Against all 2**10 of them."""
    tuned = [3.1, 2.0, 4.4, 1.0, 2.6, 5.0, 3.3, 2.2, 4.0, 1.9]
    base = [2.0, 2.5, 3.0, 1.2, 1.0, 4.6, 3.9, 1.0, 3.0, 2.4]
    apart = [one - other for one, other in zip(tuned, base, strict=True)]
    observed = abs(sum(apart))
    all_of_them = [
        abs(sum(sign * one for sign, one in zip(signs, apart, strict=True))) for signs in product((1, -1), repeat=10)
    ]
    exact = sum(one >= observed - 1e-9 for one in all_of_them) / len(all_of_them)
    found = swap_test(rows_of(tuned), rows_of(base), mean, seed=7)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))


def test_a_swap_test_of_equal_models_is_one_and_of_far_apart_ones_the_least_possible() -> None:
    values = [float(one) for one in range(40)]
    assert swap_test(rows_of(values), rows_of(values), mean, seed=7) == 1
    assert swap_test(rows_of([one + 9 for one in values]), rows_of(values), mean, seed=7) == 1 / 10_001
