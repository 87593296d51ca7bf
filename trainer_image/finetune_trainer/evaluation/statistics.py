"""Statistics of an evaluation. Pure functions of counts."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def wilson_interval(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209). Raises ValueError for n = 0."""
    if n <= 0:
        raise ValueError("an interval needs at least one row")
    share = successes / n
    spread = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / spread
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / spread
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947): a sign test on the discordant pairs."""
    n = first_only + second_only
    tail = sum(math.comb(n, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def perplexity(log_likelihood: float, tokens: int) -> float:
    """exp of the mean negative log-likelihood (nats) per token; infinite where that overflows."""
    try:
        return math.exp(-log_likelihood / tokens)
    except OverflowError:
        return math.inf
