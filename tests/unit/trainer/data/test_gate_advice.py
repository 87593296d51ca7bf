"""What is said before training of gates that the held-out rows are too few for."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.evaluation import EvaluationSpec
from finetune_trainer.data.gate_advice import gate_advice


def said(rows: int, *gates: dict[str, Any]) -> str:
    evaluation = {"dataset": {"source": "pvc://data/rows"}, "gates": list(gates)}
    found = gate_advice(EvaluationSpec.model_validate(evaluation), rows)
    assert all(one.reason == "FewRowsForGates" for one in found)
    return "".join(one.message for one in found)


def test_a_gain_that_the_rows_can_t_tell_is_told_with_the_least_that_they_can_and_the_rows_that_it_takes() -> None:
    text = said(1273, {"metric": "Accuracy", "minimumGain": "0.02", "significance": "0.05"})
    assert text.startswith(
        "1,273 held-out rows are few for what the gates ask: Accuracy minimumGain 0.02 takes 3,923, and these rows "
        "tell 0.0351 (with 80% power, if the two models differ on 20% of the rows, which is assumed)."
    )
    assert said(3923, {"metric": "Accuracy", "minimumGain": "0.02"}) == ""
    assert said(1273, {"metric": "Accuracy", "minimumGain": "0.04"}) == ""


def test_a_stricter_significance_takes_more_rows() -> None:
    gate = {"metric": "Accuracy", "minimumGain": "0.04"}
    assert said(1273, gate) == ""
    assert "minimumGain 0.04 takes" in said(1273, {**gate, "significance": "0.001"})


def test_a_gain_beyond_the_assumed_share_is_judged_by_itself() -> None:
    assert said(40, {"metric": "Accuracy", "minimumGain": "0.5"}) == ""
    assert "takes 14, and these rows tell none" in said(5, {"metric": "Accuracy", "minimumGain": "0.5"})


def test_a_margin_that_the_rows_can_t_show_is_told_too() -> None:
    gate = {"metric": "LetterAccuracy", "notWorseThan": {"report": "pvc://models/june", "margin": "0.02"}}
    assert "LetterAccuracy notWorseThan.margin 0.02 takes 3,925, and these rows show 0.0351" in said(1273, gate)


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": "Accuracy", "minimum": "0.9"},
        {"metric": "Accuracy", "minimumGain": "0"},
        {"metric": "Accuracy", "significance": "0.05"},
        # Nothing is known before of how a perplexity varies from row to row.
        {"metric": "Perplexity", "minimumGain": "0.01"},
    ],
)
def test_nothing_is_said_of_what_asks_for_no_difference_or_is_no_share(gate: dict[str, Any]) -> None:
    assert said(10, gate) == ""


def test_without_gates_nothing_is_said_and_with_many_it_fits() -> None:
    assert gate_advice(None, 10) == []
    gate = {
        "metric": "Accuracy",
        "minimumGain": "0.02",
        "notWorseThan": {"report": "pvc://models/june", "margin": "0.01"},
    }
    assert len(said(10, *[gate] * 8)) == 512
