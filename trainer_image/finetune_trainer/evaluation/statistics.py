"""Statistics of an evaluation. Pure functions of counts."""

from __future__ import annotations

import math

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


def perplexity(log_likelihood: float, tokens: int) -> float:
    """exp of the mean negative log-likelihood (nats) per token; infinite where that overflows."""
    try:
        return math.exp(-log_likelihood / tokens)
    except OverflowError:
        return math.inf
