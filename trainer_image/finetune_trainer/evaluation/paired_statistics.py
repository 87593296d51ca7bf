"""How far apart two models are on the same rows: intervals and tests. Pure; randomness is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.data.power import two_sided

Numbers = NDArray[np.float64]
# Of sums over rows, the last axis those of a row, to a value.
OfSums = Callable[[Numbers], Numbers]
RESAMPLES = 10_000
_AT_A_TIME = 4_000_000  # numbers held in memory


def tango_interval(better: int, worse: int, n: int, alpha: float) -> tuple[float, float]:
    """Score interval of the difference of two paired proportions (Tango 1998, Statistics in Medicine 17:891).

    ``better`` and ``worse`` count the rows that only the one, or only the other, has right; the difference is
    (better - worse) / n. Its ends are where the score test of level ``alpha`` (two-sided) just rejects. Raises
    ValueError for n = 0.
    """
    if n <= 0:
        raise ValueError("an interval needs at least one row")
    z, observed = two_sided(alpha), (better - worse) / n
    # The score falls as the assumed difference grows, from +infinity at -1 to -infinity at 1.
    low = -1.0 if worse == n else _crossing(lambda d: _score(better, worse, n, d) - z, -1.0, observed)
    high = 1.0 if better == n else _crossing(lambda d: _score(better, worse, n, d) + z, observed, 1.0)
    return low, high


def _score(better: int, worse: int, n: int, difference: float) -> float:
    """Tango's score statistic; the likeliest share of worse rows under a difference solves a quadratic equation."""
    b = -better - worse + (2 * n - better + worse) * difference
    c = -worse * difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * likeliest + difference * (1 - difference))
    gap = better - worse - n * difference
    if variance <= 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero, by bisection down to the last digit."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def bootstrap(rows: Numbers, of_sums: OfSums, alpha: float, seed: int) -> tuple[float, float]:
    """Percentile interval of what follows from the sums over rows (Efron 1979): rows are drawn again, with repeats.

    ``rows`` has a line for each row; lines of two models side by side give an interval of a paired difference. It is
    infinite where any value is.
    """
    draws = np.random.default_rng(seed)
    count = len(rows)

    def drawn(size: int) -> Numbers:
        sums: Numbers = rows[draws.integers(count, size=(size, count))].sum(axis=1)
        return of_sums(sums)

    values = np.concatenate([drawn(size) for size in _portions(rows.size)])
    if not np.isfinite(values).all():
        return -math.inf, math.inf
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def swap_test(tuned: Numbers, base: Numbers, of_sums: OfSums, seed: int) -> float:
    """Two-sided p-value of a paired permutation test (Fisher 1935): rows change hands between the models at random.

    With no difference between the models each such assignment is as likely as the one observed. The p-value counts the
    observed one, too (Phipson and Smyth 2010), so that it is never zero: at least 1 / 10,001.
    """
    draws = np.random.default_rng(seed)
    total_tuned, total_base, apart = tuned.sum(axis=0), base.sum(axis=0), base - tuned
    observed = abs(_difference(of_sums, total_tuned, total_base))
    beyond = 0
    for size in _portions(len(tuned)):
        moved = draws.integers(2, size=(size, len(tuned))).astype(np.float64) @ apart
        values = np.abs(_difference(of_sums, total_tuned + moved, total_base - moved))
        beyond += int((values >= observed * (1 - 1e-9)).sum())  # sums in another order differ in their last digits
    return (beyond + 1) / (RESAMPLES + 1)


def _difference(of_sums: OfSums, one: Numbers, other: Numbers) -> Numbers:
    return of_sums(one) - of_sums(other)


def _portions(numbers: int) -> Iterator[int]:
    """Resamples at a time, so that those of ``numbers`` numbers each fit in memory."""
    portion = max(1, min(RESAMPLES, _AT_A_TIME // max(1, numbers)))
    for start in range(0, RESAMPLES, portion):
        yield min(portion, RESAMPLES - start)
