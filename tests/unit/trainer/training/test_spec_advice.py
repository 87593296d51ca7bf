"""What is unusual in a spec, said before it runs."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.defaults import resolve
from finetune_api.results import Advice
from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.training.spec_advice import bias_advice, spec_advice

SPEC: dict[str, Any] = {
    "model": {"source": "pvc://work/model"},
    "dataset": {"source": "pvc://work/rows"},
    "training": {"epochs": 3},
    "evaluation": {"dataset": {"source": "pvc://work/test"}},
    "output": {"destination": "pvc://work/out"},
}


def advice(rows: int = 1000, **sections: Any) -> dict[str, str]:
    spec = resolve(FineTuneJobSpec.model_validate({**SPEC, **sections}))
    return {one.reason: one.message for one in spec_advice(spec, rows)}


def test_a_usual_spec_is_given_none() -> None:
    assert advice() == {}


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        ("1e-4", None),
        ("0.0005", None),
        ("5.1e-4", "LearningRateHigh"),
        ("2e-2", "LearningRateHigh"),
        ("9e-5", "LearningRateLow"),
    ],
)
def test_a_learning_rate_beyond_what_is_usual_for_the_method_is_named(rate: str, reason: str | None) -> None:
    found = advice(training={"epochs": 3, "learningRate": rate})
    assert list(found) == ([reason] if reason else [])
    if reason:
        assert f"for QLoRA 1e-4 to 5e-4 is usual, and learningRate {rate} is" in found[reason]


@pytest.mark.parametrize(
    ("method", "rate", "reasons"),
    [
        ("LoRA", "1e-3", ["LearningRateHigh"]),
        ("LoRA", "2e-4", []),
        ("Full", "2e-4", ["LearningRateHigh"]),
        ("Full", "5e-5", []),
        ("Full", "1e-5", ["LearningRateLow"]),
    ],
)
def test_each_method_has_a_usual_range_of_its_own(method: str, rate: str, reasons: list[str]) -> None:
    assert list(advice(method=method, training={"epochs": 3, "learningRate": rate})) == reasons


@pytest.mark.parametrize("method", ["QLoRA", "LoRA", "Full"])
def test_no_methods_own_default_is_unusual(method: str) -> None:
    assert advice(method=method) == {}


def test_more_than_ten_passes_are_many_however_they_are_asked_for() -> None:
    assert advice(training={"epochs": 10}) == {}
    assert "11.0 passes over 1,000 rows are many" in advice(training={"epochs": 11})["ManyEpochs"]
    by_steps = advice(rows=80, training={"maxSteps": 101, "batchSize": 8})
    assert "10.1 passes over 80 rows are many" in by_steps["ManyEpochs"]
    assert "spec.training.maxSteps" in by_steps["ManyEpochs"]
    assert advice(rows=80, training={"maxSteps": 100, "batchSize": 8}) == {}


def test_rows_that_no_step_will_take_are_counted() -> None:
    found = advice(training={"maxSteps": 100, "batchSize": 8})
    assert "100 steps of 8 take 800 of 1,000 rows" in found["RowsNotSeen"]
    assert advice(training={"maxSteps": 125, "batchSize": 8}) == {}


def test_a_warm_up_that_will_be_cut_is_told() -> None:
    assert list(advice(rows=8, training={"epochs": 2, "batchSize": 4})) == ["WarmupCut"]


def test_an_early_stopping_that_can_never_fire_is_told() -> None:
    rows, stopping = {"source": "pvc://work/rows", "validation": {"fraction": "0.1"}}, {"everySteps": 50, "patience": 3}
    training = {"maxSteps": 150, "batchSize": 8, "earlyStopping": stopping}
    assert list(advice(dataset=rows, training=training)) == ["EarlyStoppingNeverFires"]


@pytest.mark.parametrize(
    ("rank", "alpha", "reasons"),
    [
        (8, 16, []),
        (64, 64, []),
        (4, 8, ["RankUnusual"]),
        (128, 128, ["RankUnusual"]),
        (32, 16, ["AlphaUnusual"]),
        (8, 17, ["AlphaUnusual"]),
    ],
)
def test_rank_and_alpha_beyond_what_is_usual_are_named(rank: int, alpha: int, reasons: list[str]) -> None:
    found = advice(lora={"rank": rank, "alpha": alpha})
    assert list(found) == reasons
    if (rank, alpha) == (32, 16):
        assert "scales the update by 0.5 at rank 32" in found["AlphaUnusual"]


def test_a_rank_stabilized_update_is_not_scaled_by_alpha_over_rank() -> None:
    assert advice(lora={"rank": 64, "alpha": 16, "rankStabilized": True}) == {}


def test_a_job_that_measures_nothing_is_told_so() -> None:
    assert list(advice(evaluation=None)) == ["NoEvaluation"]


def test_trained_biases_are_counted() -> None:
    assert bias_advice(0) is None
    found = bias_advice(6)
    assert isinstance(found, Advice)
    assert "6 bias vectors" in found.message


@pytest.mark.parametrize(
    ("rows", "fraction", "named"),
    [
        ({"source": "pvc://work/general", "split": "train"}, "0.1", "replay"),
        ({"source": "pvc://work/general", "split": "train"}, "0", None),  # looked at, and not trained on
        ({"source": "pvc://work/general"}, "0.1", None),  # its test split
        ({"source": "pvc://work/other", "split": "train"}, "0.1", None),
        ({"source": "pvc://work/rows", "split": "train"}, "0.1", "dataset"),
    ],
)
def test_retention_rows_that_are_trained_on_are_told_of(rows: dict[str, str], fraction: str, named: str | None) -> None:
    replay = {"source": "pvc://work/general", "fraction": fraction}
    evaluation = {**SPEC["evaluation"], "retention": rows}
    found = advice(dataset={**SPEC["dataset"], "replay": replay}, evaluation=evaluation)
    assert list(found) == (["RetentionTrainedOn"] if named else [])
    if named:
        assert f"names the rows of {named}, which are trained on" in found["RetentionTrainedOn"]
