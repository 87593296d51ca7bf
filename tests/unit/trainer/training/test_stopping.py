"""Early stopping by what was measured, and what status shows of it."""

from __future__ import annotations

import math

import pytest

from finetune_api.defaults import ResolvedTraining
from finetune_trainer.training.stopping import (
    Measured,
    Stopping,
    measuring_advice,
    measuring_steps,
    retention_points,
    stopping_advice,
)


def points(*losses: float) -> list[Measured]:
    return [Measured(10 * place, loss) for place, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "best", "exhausted"),
    [
        ((3.0,), None, False),  # the untrained model is no candidate
        ((3.0, 2.0), 10, False),
        ((1.0, 2.0), 10, False),
        ((3.0, 2.0, 2.1, 2.2), 10, False),
        ((3.0, 2.0, 2.1, 2.2, 2.3), 10, True),
        ((3.0, 2.0, 2.1, 1.9, 2.3, 2.3), 30, False),
        ((3.0, 2.0, 2.0, 2.0, 2.0), 10, True),  # no lower is no better
        ((3.0, math.nan, 2.0, 1.9), 30, False),  # no number is no candidate, and hides none
        ((3.0, math.inf, math.nan), None, False),
        ((3.0, 2.0, math.nan, math.nan, math.nan), 10, True),
    ],
)
def test_training_ends_after_as_many_evaluations_without_a_lower_loss_as_patience_has(
    losses: tuple[float, ...], best: int | None, exhausted: bool
) -> None:
    stopping = Stopping(patience=3, minimum_change=0.0)
    found = stopping.best(points(*losses))
    assert (found.step if found else None) == best
    assert stopping.is_exhausted(points(*losses)) == exhausted


def test_a_loss_that_is_lower_by_less_than_the_minimum_change_is_no_better() -> None:
    stopping = Stopping(patience=2, minimum_change=0.1)
    assert stopping.is_exhausted(points(3.0, 2.0, 1.95, 1.91))
    assert not stopping.is_exhausted(points(3.0, 2.0, 1.95, 1.89))


def test_the_lowest_loss_is_the_best_also_when_patience_finds_it_no_lower() -> None:
    stopping = Stopping(patience=2, minimum_change=0.1)
    best = stopping.best(points(3.0, 2.0, 1.95, 1.91))
    assert best
    assert best.validation_loss == 1.91


def test_small_gains_that_add_up_to_the_minimum_change_keep_a_training_going() -> None:
    assert not Stopping(patience=3, minimum_change=0.1).is_exhausted(points(3.0, 2.0, 1.95, 1.9, 1.85, 1.8))


def test_the_reason_for_an_early_end_names_the_change_that_was_missing() -> None:
    assert Stopping(2, 0.0).words() == "2 evaluations in a row without a validation loss that is lower"
    assert Stopping(2, 0.1).words() == "2 evaluations in a row without a validation loss that is lower by more than 0.1"


def training(**changes: object) -> ResolvedTraining:
    return ResolvedTraining.model_validate({"learningRate": "2e-4", "maxSteps": 100, **changes})


@pytest.mark.parametrize(("every", "patience", "fires"), [(25, 3, True), (34, 3, False), (50, 3, False), (50, 1, True)])
def test_a_stopping_that_can_never_fire_is_told_of_with_both_numbers(every: int, patience: int, fires: bool) -> None:
    wanted = training(earlyStopping={"everySteps": every, "patience": patience})
    advice = stopping_advice(wanted, 100)
    assert (advice is None) == fires
    if advice:
        assert f"100 steps have {-(-100 // every)} evaluations" in advice.message
        assert f"takes {patience + 1} at least" in advice.message
    assert stopping_advice(training(), 100) is None


def test_without_early_stopping_a_run_is_measured_ten_times() -> None:
    assert measuring_steps(training(), 100) == 10
    assert measuring_steps(training(), 7) == 1
    assert measuring_steps(training(earlyStopping={}), 100) == 25


@pytest.mark.parametrize(("rows", "told"), [(0, False), (72, False), (73, True)])
def test_measuring_that_takes_more_rows_than_training_is_told_of(rows: int, told: bool) -> None:
    # 100 steps of 8 are 800 examples; the rows are scored before, nine times on the way and at the end.
    advice = measuring_advice(training(), 100, rows)
    assert (advice is not None) is told
    if advice:
        assert "73 validation and retention rows are scored 11 times, 803 in all, and 800 examples" in advice.message


def test_status_shows_the_first_the_last_and_the_best_of_many_points() -> None:
    many = [Measured(step, None, 1.0) for step in range(101)]
    shown = [point.step for point in retention_points(many)]
    assert (shown[0], shown[-1], len(shown)) == (0, 100, 16)
    for best in range(1, 101):
        shown = [point.step for point in retention_points(many, best)]
        assert (shown[0], shown[-1], len(shown)) == (0, 100, 16)
        assert best in shown
        assert shown == sorted(set(shown))
    assert retention_points([Measured(5, 2.0)]) == []
    assert retention_points([Measured(5, None, 0.0)])[0].perplexity == "1"
