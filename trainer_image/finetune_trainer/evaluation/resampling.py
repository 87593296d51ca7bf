"""Chance in scores of a whole corpus that follow from sums over its rows: bootstrap and approximate randomization."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

SEED = 12345  # sacrebleu's
RESAMPLES = 1000
TRIALS = 10_000
# Numbers that are drawn at a time: their memory doesn't grow with the rows.
_DRAWN = 2**22

Score = Callable[[Sequence[int]], float]
Sums = NDArray[np.int64]


def bootstrap_interval(rows: Sequence[Sequence[int]], score: Score, seed: int = SEED) -> tuple[float, float]:
    """The 2.5% and 97.5% percentiles of the score over 1,000 resamples of the rows (Koehn 2004).

    ``rows`` are the statistics of each row, and ``score`` takes their sums.
    """
    statistics, random = np.asarray(rows, dtype=np.int64), np.random.default_rng(seed)
    scores = [
        score(sums.tolist())
        for count in _pieces(RESAMPLES, len(rows))
        for sums in _resampled(statistics, random, count)
    ]
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def approximate_randomization(
    base: Sequence[Sequence[int]], tuned: Sequence[Sequence[int]], score: Score, seed: int = SEED, trials: int = TRIALS
) -> float:
    """Two-sided p-value of the paired approximate randomization test (Riezler and Maxwell 2005).

    Each trial swaps base and tuned in a random half of the rows; those count whose difference is at least the real one,
    and one is added to both counts. sacrebleu's own counts larger ones only, which makes models that differ in one row
    differ for certain.
    """
    first, second = np.asarray(base, dtype=np.int64), np.asarray(tuned, dtype=np.int64)
    total, random = first.sum(0) + second.sum(0), np.random.default_rng(seed)

    def difference(sums: Sums) -> float:
        return abs(score(sums.tolist()) - score((total - sums).tolist()))

    real = difference(first.sum(0))
    as_large = 0
    for count in _pieces(trials, len(first)):
        keep = random.integers(2, size=(count, len(first)), dtype=bool)
        # In doubles, which multiply fast and are exact far beyond any sum of n-grams.
        shuffled = keep.astype(np.float64) @ (first - second).astype(np.float64) + second.sum(0)
        as_large += sum(difference(sums) >= real for sums in shuffled.round().astype(np.int64))
    return (as_large + 1) / (trials + 1)


def _resampled(statistics: Sums, random: np.random.Generator, count: int) -> Sums:
    """Sums over ``count`` resamples, a row for each."""
    places = random.integers(len(statistics), size=(count, len(statistics)))
    times = np.zeros((count, len(statistics)))
    np.add.at(times, (np.arange(count)[:, None], places), 1)
    return (times @ statistics.astype(np.float64)).round().astype(np.int64)


def _pieces(repeats: int, rows: int) -> Iterator[int]:
    """Repeats in pieces whose numbers fit in memory. A multiple of 32 keeps draws the same whatever the pieces."""
    step = max(32, _DRAWN // rows // 32 * 32)
    for start in range(0, repeats, step):
        yield min(step, repeats - start)
