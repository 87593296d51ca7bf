"""How many rows of each dataset a mixture takes, which, and in what order. Pure: counts, weights and a seed decide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def shares(counts: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Rows of each dataset: as many as the weights allow without repeating any.

    The smallest of rows/weight sets the size; what is left by rounding down goes to the largest remainders.
    """
    size = min(Fraction(counts[name]) / weight for name, weight in weights.items())
    exact = {name: size * weight for name, weight in weights.items()}
    taken = {name: floor(share) for name, share in exact.items()}
    left = floor(sum(exact.values(), Fraction(0))) - sum(taken.values())
    for name in sorted(exact, key=lambda name: taken[name] - exact[name])[:left]:
        taken[name] += 1
    return taken


def replayed(others: int, available: int, fraction: Fraction) -> int:
    """Rows to replay beside ``others``, so that they are that share of all, or all there are."""
    return min(available, round(fraction / (1 - fraction) * others))


def sample(count: int, take: int, name: str, seed: int) -> list[int]:
    """Which ``take`` of ``count`` rows are taken, in their own order: the same for one name and seed, for ever."""
    if take >= count:
        return list(range(count))
    ranked = sorted(range(count), key=lambda number: _rank(seed, "sample", name, number))
    return sorted(ranked[:take])


def mixed(counts: Mapping[str, int], taken: Mapping[str, int], seed: int) -> Numbers:
    """The rows of a mixture in order, each by its number among the rows of all datasets one after the other."""
    rows, first = [], 0
    for name, count in counts.items():
        chosen = sample(count, taken[name], name, seed)
        rows += [(_rank(seed, "order", name, number), first + number) for number in chosen]
        first += count
    return np.array([row for _, row in sorted(rows)], dtype=np.int64)


def _rank(seed: int, what: str, name: str, number: int) -> bytes:
    """A number's place in a shuffled order. A digest, since libraries change their random numbers between versions."""
    return hashlib.sha256(f"{seed}/{what}/{name}/{number}".encode()).digest()
