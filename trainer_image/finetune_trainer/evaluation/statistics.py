"""Statistics of an evaluation. Pure functions of counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209). Raises ValueError for n = 0."""
    if n <= 0:
        raise ValueError("an interval needs at least one row")
    share = successes / n
    spread = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / spread
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / spread
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947): a sign test on the discordant pairs.

    The tail is summed from its largest term down, each term by its ratio to the one before: one multiplication per
    pair, and nothing overflows. The smallest double, about 5e-324, stands for what lies below it.
    """
    n, fewer = first_only + second_only, min(first_only, second_only)
    if 2 * fewer >= n - 1:  # the two tails meet or overlap
        return 1.0
    # C(n, k-1) / C(n, k) = k / (n - k + 1), below 1 for k <= fewer < n / 2: the terms only shrink.
    term, terms = 1.0, [1.0]
    for k in range(fewer, 0, -1):
        term *= k / (n - k + 1)
        if term < 1e-19:  # nine standard deviations out: what follows can't reach the last digit
            break
        terms.append(term)
    return _two_sided(n, fewer, math.fsum(terms))


def _two_sided(n: int, fewer: int, tail: float) -> float:
    """2 * C(n, fewer) * tail / 2**n, by a product of exact ratios that is rescaled as it grows."""
    mantissa, exponent = math.frexp(2 * tail)
    for k in range(1, fewer + 1):
        mantissa, shift = math.frexp(mantissa * ((n - k + 1) / k))
        exponent += shift
    return min(1.0, math.ldexp(mantissa, exponent - n)) or math.ulp(0.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than one before it, or
    larger than 1. Holds whatever the tests have to do with each other.
    """
    found, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = largest
    return found


def perplexity(log_likelihood: float, tokens: int) -> float:
    """exp of the mean negative log-likelihood (nats) per token; infinite where that overflows."""
    try:
        return math.exp(-log_likelihood / tokens)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Bin:
    """Rows whose probability lies above ``low`` and not above ``high``; means are 0 where there are none."""

    low: float
    high: float
    rows: int
    confidence: float  # mean probability of what was chosen
    accuracy: float  # share in which that was right


def reliability_bins(rows: Sequence[tuple[float, bool]], count: int = 10) -> list[Bin]:
    """Rows as (probability of what was chosen, whether it is right) in ``count`` bins of equal width, as Guo et al."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(count)]
    for probability, right in rows:
        members[max(0, math.ceil(probability * count) - 1)].append((probability, right))
    return [
        Bin(
            index / count,
            (index + 1) / count,
            len(one),
            math.fsum(probability for probability, _ in one) / max(1, len(one)),
            sum(right for _, right in one) / max(1, len(one)),
        )
        for index, one in enumerate(members)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean over rows of the distance between probability and share of right rows in their bin.

    Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks, equation 3. Raises ValueError
    without a row.
    """
    total = sum(one.rows for one in bins)
    if not total:
        raise ValueError("a calibration error needs at least one row")
    return math.fsum(one.rows * abs(one.accuracy - one.confidence) for one in bins) / total
