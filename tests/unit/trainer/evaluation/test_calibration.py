"""The calibration error against an independent calculation, and the probabilities that it is of."""

from __future__ import annotations

import math
import random

import pytest

from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.metrics.calibration import CalibrationError, Confidence
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.statistics import expected_calibration_error, reliability_bins


def question_of(texts: str = "pqr", right: int = 0) -> Question:
    options = tuple(Choice(letter, text, f"It is {text}.") for letter, text in zip("ABC", texts, strict=False))
    return Question([1], [[2, 9]] * len(options), [], 1, Choices(options, right))


def by_numpy(rows: list[tuple[float, bool]], count: int) -> float:
    """As the reference implementation of Guo et al. does: bins open below and closed above."""
    import numpy as np

    probability, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=float)
    total = 0.0
    for low, high in zip(np.linspace(0, 1, count + 1)[:-1], np.linspace(0, 1, count + 1)[1:], strict=True):
        inside = (probability > low) & (probability <= high)
        if inside.any():
            total += abs(probability[inside].mean() - right[inside].mean()) * inside.mean()
    return float(total)


@pytest.mark.parametrize("count", [10, 15])
def test_the_error_is_that_of_the_reference_implementation(count: int) -> None:
    source = random.Random(4)
    rows = [(source.random(), source.random() < 0.4) for _ in range(997)]
    assert expected_calibration_error(reliability_bins(rows, count)) == pytest.approx(by_numpy(rows, count))


def test_a_model_that_is_right_as_often_as_it_is_sure_has_no_error() -> None:
    rows = [Confidence(0.25, number % 4 == 0) for number in range(80)] + [Confidence(1.0, True)] * 7
    assert float(CalibrationError().value(rows).value) == 0


def test_a_model_that_is_sure_and_never_right_has_the_largest_error() -> None:
    assert float(CalibrationError().value([Confidence(1.0, False)] * 3).value) == 1


def test_the_bins_say_how_sure_and_how_often_right_the_model_was() -> None:
    rows = [Confidence(0.6, True), Confidence(0.55, False), Confidence(0.9, True)]
    assert CalibrationError().details(rows) == {
        "bins": [
            {"from": 0.5, "to": 0.6, "rows": 2, "meanProbability": 0.575, "shareRight": 0.5},
            {"from": 0.8, "to": 0.9, "rows": 1, "meanProbability": 0.9, "shareRight": 1.0},
        ]
    }


def test_an_option_s_probability_is_its_response_s_among_those_of_the_row() -> None:
    likelihoods = [[math.log(0.03), -9.0], [math.log(0.01), -0.1], [math.log(0.01), 0.0]]
    row = CalibrationError().row(question_of(), likelihoods)
    assert row.right
    assert row.probability == pytest.approx(0.6)


def test_options_of_one_text_count_together() -> None:
    likelihoods = [[math.log(0.4), 0.0], [math.log(0.2), 0.0], [math.log(0.4), 0.0]]
    row = CalibrationError().row(question_of("pqp", right=2), likelihoods)
    assert row.right
    assert row.probability == pytest.approx(0.8)


def test_very_unlikely_responses_have_probabilities_all_the_same() -> None:
    row = CalibrationError().row(question_of(), [[-9000.0, 0.0], [-9001.0, 0.0], [-9900.0, 0.0]])
    assert row.probability == pytest.approx(1 / (1 + math.exp(-1)))


def test_an_error_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        expected_calibration_error(reliability_bins([]))
