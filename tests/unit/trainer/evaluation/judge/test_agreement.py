"""Krippendorff's alpha against the values that he published, and against its definition pair by pair."""

from __future__ import annotations

import random

import pytest

from finetune_trainer.evaluation.judge.agreement import equal_share, interval, krippendorff_alpha, nominal

# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section D: four observers, twelve units.
OBSERVERS = ["123321412...", "1233224125.3", ".33323422 51.".replace(" ", ""), "12332441251."]
PUBLISHED = [[int(row[unit]) for row in OBSERVERS if row[unit] != "."] for unit in range(12)]


def test_alpha_is_what_krippendorff_published() -> None:
    assert krippendorff_alpha(PUBLISHED, nominal) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(PUBLISHED, interval) == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_its_definition_pair_by_pair(seed: int) -> None:
    dice = random.Random(seed)
    units = [[dice.randint(1, 5) for _ in range(dice.randint(1, 4))] for _ in range(30)]
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    within = sum(
        (one - other) ** 2 / (len(unit) - 1)
        for unit in paired
        for place, one in enumerate(unit)
        for there, other in enumerate(unit)
        if place != there
    ) / len(values)
    over = sum(
        (one - other) ** 2 for place, one in enumerate(values) for there, other in enumerate(values) if place != there
    ) / (len(values) * (len(values) - 1))
    assert krippendorff_alpha(units, interval) == pytest.approx(1 - within / over)


def test_alpha_is_one_for_those_who_agree_and_nothing_where_all_say_the_same() -> None:
    assert krippendorff_alpha([[1, 1], [5, 5]], interval) == 1
    assert krippendorff_alpha([["base", "tuned"], ["tuned", "base"]], nominal) == pytest.approx(-0.5)
    assert krippendorff_alpha([[3, 3], [3, 3]], interval) is None
    assert krippendorff_alpha([[3], []], interval) is None


def test_the_equal_share_counts_units_that_were_judged_more_than_once() -> None:
    assert equal_share([[1, 1, 1], [1, 2], [4]]) == 0.5
    assert equal_share([[4], []]) is None
