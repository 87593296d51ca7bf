"""A push and what the pod said before → the progress that status shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.progress import ProgressPush, ProgressStatus
from finetune_operator.gateway.identity import JobKey, Reporter
from finetune_operator.gateway.merge import merge

NOW = datetime(2026, 1, 1, 8, tzinfo=UTC)
REPORTER = Reporter(JobKey("ml", "medqa", "uid-1"), "Train", "medqa-train-a", "pod-a", NOW, "batch-1")
BEFORE = ProgressStatus(pod="medqa-train-a", step=20, total_steps=40, percent=50, loss="1.5", epoch="0.5")


def push(percent: int | None = None, remaining: int | None = None, **metrics: object) -> ProgressPush:
    listed = [{"name": name, "value": str(value)} for name, value in metrics.items()]
    status = {"progressPercentage": percent, "estimatedRemainingSeconds": remaining, "metrics": listed}
    return ProgressPush.model_validate({"trainerStatus": status})


def merged(told: ProgressPush, before: ProgressStatus | None = None) -> dict[str, Any]:
    return merge(told, REPORTER, before, NOW).to_api()


def test_a_whole_push_stands_for_itself() -> None:
    told = push(75, 90, current_step=30, total_steps=40, current_epoch=0.75, loss=0.9, learning_rate=1e-4)
    assert merged(told, BEFORE) == {
        "stage": "Train",
        "pod": "medqa-train-a",
        "step": 30,
        "totalSteps": 40,
        "percent": 75,
        "epoch": "0.75",
        "loss": "0.9",
        "learningRate": "0.0001",
        "remainingSeconds": 90,
        "summary": "30/40",
        "remaining": "1m 30s",
        "lastUpdateTime": "2026-01-01T08:00:00Z",
    }


def test_a_push_without_loss_keeps_the_last_one() -> None:
    assert merged(push(75, current_step=30, total_steps=40), BEFORE)["loss"] == "1.5"


def test_a_first_push_without_loss_shows_none() -> None:
    assert "loss" not in merged(push(0, total_steps=40))


def test_hugging_faces_first_push_names_no_step() -> None:
    first = merged(push(0, total_steps=40))
    assert (first["step"], first["percent"], first["summary"]) == (0, 0, "0/40")


def test_hugging_faces_last_push_names_no_step_and_means_all() -> None:
    last = merged(push(100, 0, loss=0.3), BEFORE)
    assert (last["step"], last["percent"], last["summary"], last["loss"]) == (40, 100, "40/40", "0.3")


def test_a_second_start_in_one_pod_does_not_go_back() -> None:
    again = merged(push(0, total_steps=40), BEFORE)
    assert (again["step"], again["percent"]) == (20, 50)


def test_an_image_that_knows_only_a_percentage_shows_it() -> None:
    only = merged(push(30))
    assert (only["step"], only["percent"], only["summary"]) == (0, 30, "30%")


@pytest.mark.parametrize("value", ["NaN", "inf", "-1", "many", ""])
def test_a_metric_that_is_no_number_counts_as_absent(value: str) -> None:
    assert merged(push(50, current_step=value, total_steps=40, loss="nan"), BEFORE)["loss"] == "1.5"


@pytest.mark.parametrize(("step", "total"), [("1e300", 40), (1, "1e17")])
def test_a_count_that_no_reader_keeps_exactly_counts_as_absent(step: object, total: object) -> None:
    shown = merged(push(50, current_step=step, total_steps=total))
    assert shown["step"] in (0, 1)
    assert shown["totalSteps"] in (0, 40)


def test_an_estimate_that_no_reader_keeps_exactly_is_refused() -> None:
    with pytest.raises(ValueError, match="estimatedRemainingSeconds"):
        push(50, 10**30, current_step=1, total_steps=2)
