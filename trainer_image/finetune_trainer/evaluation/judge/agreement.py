"""How far repeated judgements of the same things agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import TypeVar

V = TypeVar("V")
Units = Sequence[Sequence[V]]  # of each thing judged, its judgements; missing ones are left out


def nominal(one: object, other: object) -> float:
    """Whether two judgements differ."""
    return float(one != other)


def interval(one: float, other: float) -> float:
    """How far two numbers differ, squared."""
    return (one - other) ** 2


def krippendorff_alpha(units: Units[V], difference: Callable[[V, V], float]) -> float | None:
    """Krippendorff's alpha: 1 - observed / expected disagreement (Krippendorff 2011, Computing Krippendorff's
    Alpha-Reliability).

    Observed is the mean difference of pairs within a unit, where a unit of m judgements weighs m; expected is that of
    pairs over all judgements. Units with fewer than two judgements don't count. 1: they always agree; 0: as by chance.
    None where all judgements are the same, or there are none to pair.
    """
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    if not values:
        return None
    # Values are few (five points, three verdicts), pairs of all judgements are not.
    kinds = {value: values.count(value) for value in set(values)}
    expected = sum(
        difference(one, other) * count * kinds[other] for one, count in kinds.items() for other in kinds if one != other
    )
    if not expected:
        return None
    observed = sum(
        sum(difference(one, other) for one, other in permutations(unit, 2)) / (len(unit) - 1) for unit in paired
    )
    return 1 - (observed / len(values)) / (expected / (len(values) * (len(values) - 1)))


def equal_share(units: Units[V]) -> float | None:
    """The share of units of two or more judgements in which all are the same; None without such a unit."""
    paired = [unit for unit in units if len(unit) > 1]
    return sum(len(set(unit)) == 1 for unit in paired) / len(paired) if paired else None
