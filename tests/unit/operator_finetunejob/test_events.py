"""Events and messages for people: from how a status changed to what they read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.results import EvaluationStatus
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.events import announcements
from finetune_operator.finetunejob.summary import evaluation_message
from finetune_operator.finetunejob.transitions import with_condition

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)
EMPTY = FineTuneJobStatus()


def succeeded(value: Any, reason: str, message: str = "words") -> FineTuneJobStatus:
    """A status with that verdict."""
    return with_condition(EMPTY, "Succeeded", value, reason, message, NOW)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (EMPTY, succeeded("Unknown", "Pending"), []),
        (EMPTY, succeeded("Unknown", "Unschedulable"), [("Warning", "Unschedulable")]),
        (succeeded("Unknown", "Pending"), succeeded("Unknown", "Training"), []),
        (succeeded("Unknown", "Training"), succeeded("Unknown", "Training", "other words"), []),
        (succeeded("Unknown", "Training"), succeeded("False", "OutOfMemory"), [("Warning", "OutOfMemory")]),
        (succeeded("Unknown", "Training"), succeeded("False", "WordOfANewTrainer"), [("Warning", "WordOfANewTrainer")]),
        (succeeded("Unknown", "Evaluating"), succeeded("True", "Completed"), [("Normal", "Succeeded")]),
    ],
)
def test_an_event_tells_of_trouble_and_of_the_end_and_of_nothing_else(
    before: FineTuneJobStatus, after: FineTuneJobStatus, told: list[tuple[str, str]]
) -> None:
    assert [(one.type, one.reason) for one in announcements(before, after)] == told


def test_an_attempt_that_ended_badly_is_told_once() -> None:
    ended = {
        "stage": "Train",
        "number": 1,
        "jobUID": "j",
        "pod": "p1",
        "podUID": "u",
        "endTime": "2026-01-01T00:00:00Z",
    }
    after = FineTuneJobStatus.model_validate({"attempts": [{**ended, "reason": "Preempted"}]})
    assert [(one.type, one.reason) for one in announcements(EMPTY, after)] == [("Warning", "Preempted")]
    assert announcements(after, after) == []
    completed = FineTuneJobStatus.model_validate({"attempts": [{**ended, "reason": "Completed"}]})
    assert announcements(EMPTY, completed) == []


def test_the_transition_time_of_a_condition_moves_only_with_its_status() -> None:
    first = succeeded("Unknown", "Pending")
    same = with_condition(first, "Succeeded", "Unknown", "Training", "runs", LATER)
    assert same.conditions[0].last_transition_time == NOW
    moved = with_condition(same, "Succeeded", "True", "Completed", "", LATER)
    assert moved.conditions[0].last_transition_time == LATER
    assert len(moved.conditions) == 1


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            [{"name": "Accuracy", "base": {"value": "0.412"}, "tuned": {"value": "0.447"}, "pValue": "0.012"}],
            "accuracy 0.412 → 0.447 (+3.5 points, p=0.012, n=9)",
        ),
        (
            [{"name": "Accuracy", "base": {"value": "0.5"}, "tuned": {"value": "0.4"}}],
            "accuracy 0.5 → 0.4 (-10.0 points, n=9)",
        ),
        ([{"name": "Accuracy", "tuned": {"value": "0.447"}, "examples": 7}], "accuracy 0.447 (n=7)"),
        (
            [
                {"name": "Accuracy", "omitted": "options are too long"},
                {"name": "LetterAccuracy", "tuned": {"value": "0.4"}},
            ],
            "letter accuracy 0.4 (n=9)",
        ),
        (
            [{"name": "Perplexity", "base": {"value": "12.1"}, "tuned": {"value": "9.8"}}],
            "perplexity 12.1 → 9.8 (n=9)",
        ),
        (
            [{"name": "Accuracy", "base": {"value": "none"}, "tuned": {"value": "0.4"}}],
            "accuracy none → 0.4 (n=9)",
        ),
        ([], "0.41→0.45 (n=9)"),
    ],
)
def test_the_verdict_s_message_says_what_the_evaluation_found(metrics: list[dict[str, Any]], message: str) -> None:
    document: dict[str, Any] = {"summary": "0.41→0.45", "examples": 9, "metrics": metrics}
    assert evaluation_message(EvaluationStatus.model_validate(document)) == message
