"""Rows of a mixture: counts by hand, and what holds for all counts and weights."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.mixture import mixed, sample, shares


@pytest.mark.parametrize(
    ("counts", "weights", "taken"),
    [
        ((1000, 1000), ("1", "1"), (1000, 1000)),
        ((1000, 400), ("0.5", "0.5"), (400, 400)),
        ((1000, 400), ("0.75", "0.25"), (1000, 333)),  # 1000 / 0.75 = 1333.3 rows in all
        ((90, 10, 500), ("3", "1", "6"), (30, 10, 60)),
        ((10, 10, 10), ("1", "1", "1"), (10, 10, 10)),
        ((100, 7, 7), ("5", "2", "2"), (17, 7, 7)),  # 7 / 2 * 9 = 31.5: 31 rows, 17.5 of them of the first
        ((10, 100, 100), ("3", "4", "5"), (10, 13, 17)),  # 13.3 and 16.7: the larger remainder is made whole
        ((5, 0), ("1", "1"), (0, 0)),
    ],
)
def test_as_many_rows_are_taken_as_the_weights_allow(
    counts: tuple[int, ...], weights: tuple[str, ...], taken: tuple[int, ...]
) -> None:
    found = shares(
        {str(place): count for place, count in enumerate(counts)},
        {str(place): Fraction(weight) for place, weight in enumerate(weights)},
    )
    assert tuple(found.values()) == taken


DATASETS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 1000).map(lambda weight: Fraction(weight, 100))),
    min_size=1,
    max_size=9,
)


@given(DATASETS)
def test_no_row_is_repeated_and_no_share_is_off_by_a_row(datasets: list[tuple[int, Fraction]]) -> None:
    counts = {str(place): count for place, (count, _) in enumerate(datasets)}
    weights = {str(place): weight for place, (_, weight) in enumerate(datasets)}
    taken = shares(counts, weights)
    size = min(Fraction(counts[name]) / weights[name] for name in counts)
    assert any(taken[name] == counts[name] for name in counts)  # the scarcest is used up
    assert sum(taken.values()) == floor(size * sum(weights.values()))
    for name in counts:
        assert 0 <= taken[name] <= counts[name]
        assert abs(taken[name] - size * weights[name]) < 1


def test_a_sample_and_an_order_stay_the_same_for_ever() -> None:
    # By hand: echo -n 7/sample/feedback/0 | sha256sum, and so on, sorted.
    assert sample(10, 4, "feedback", 7) == [0, 1, 4, 7]
    assert mixed({"dataset": 4, "feedback": 3}, {"dataset": 4, "feedback": 2}, 7).tolist() == [4, 0, 2, 3, 5, 1]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 2**31))
def test_an_order_holds_each_taken_row_once(first: int, second: int, seed: int) -> None:
    taken = {"dataset": first, "other": second // 2}
    order = mixed({"dataset": first, "other": second}, taken, seed)
    assert len(set(order.tolist())) == len(order) == sum(taken.values())
    assert Counter(row < first for row in order.tolist())[True] == first


def test_another_seed_gives_other_rows_in_another_order() -> None:
    counts, taken = {"dataset": 500, "other": 500}, {"dataset": 500, "other": 100}
    one, other = mixed(counts, taken, 1), mixed(counts, taken, 2)
    assert not np.array_equal(one, other)
    assert set(one.tolist()) != set(other.tolist())


def test_rows_of_all_datasets_are_mixed_evenly() -> None:
    order = mixed({"dataset": 1000, "other": 1000}, {"dataset": 1000, "other": 1000}, 0)
    assert 200 < int((order[:500] < 1000).sum()) < 300
