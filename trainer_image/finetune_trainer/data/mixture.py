"""How many rows of each dataset a mixture takes, and which. Pure: counts, weights and a seed decide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from math import floor


def shares(counts: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Rows of each dataset: as many as the weights allow without repeating any.

    The smallest of rows/weight sets the size; what is left by rounding down goes to the largest remainders.
    """
    size = min(Fraction(counts[name]) / weight for name, weight in weights.items())
    exact = {name: size * weight for name, weight in weights.items()}
    taken = {name: floor(share) for name, share in exact.items()}
    left = floor(sum(exact.values(), Fraction(0))) - sum(taken.values())
    by_remainder = sorted(exact, key=lambda name: taken[name] - exact[name])
    for name in by_remainder[:left]:
        if taken[name] < counts[name]:
            taken[name] += 1
    return taken


def sample(count: int, take: int, name: str, seed: int) -> list[int]:
    """Which ``take`` of ``count`` rows are taken, in their own order: the same for one name and seed, for ever."""
    if take >= count:
        return list(range(count))
    ranked = sorted(range(count), key=lambda number: hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest())
    return sorted(ranked[:take])
