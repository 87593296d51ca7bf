"""Events and messages for people: from how a status changed to what they read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.reasons import FAILURES, Reason
from finetune_api.results import EvaluationStatus
from finetune_api.status import MAX_MESSAGE, FineTuneJobStatus
from finetune_operator.finetunejob.conditions import with_condition
from finetune_operator.finetunejob.events import announcements
from finetune_operator.finetunejob.summary import evaluation_message
from finetune_operator.runtime.messages import one_line, with_advice

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
        (succeeded("Unknown", "Pending"), succeeded("Unknown", "Training"), [("Normal", "Training")]),
        (succeeded("Unknown", "Training"), succeeded("Unknown", "Training", "other words"), []),
        (succeeded("Unknown", "Training"), succeeded("False", "OutOfMemory"), [("Warning", "OutOfMemory")]),
        (succeeded("Unknown", "Evaluating"), succeeded("True", "Completed"), [("Normal", "Succeeded")]),
    ],
)
def test_an_event_is_told_when_the_reason_changes_and_only_then(
    before: FineTuneJobStatus, after: FineTuneJobStatus, told: list[tuple[str, str]]
) -> None:
    assert [(one.type, one.reason) for one in announcements(before, after)] == told


def test_an_attempt_that_ended_badly_is_told_once() -> None:
    ended = {"stage": "Train", "number": 1, "jobUID": "j", "pod": "p1", "endTime": "2026-01-01T00:00:00Z"}
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
    ("base", "tuned", "test", "message"),
    [
        ({"accuracy": "0.412"}, {"accuracy": "0.447"}, "0.012", "accuracy 0.412 → 0.447 (+3.5 points, p=0.012, n=9)"),
        ({"accuracy": "0.5"}, {"accuracy": "0.4"}, None, "accuracy 0.5 → 0.4 (-10.0 points, n=9)"),
        (None, {"accuracy": "0.447"}, None, "accuracy 0.447 (n=9)"),
        (None, {"letterAccuracy": "0.4"}, None, "letter accuracy 0.4 (n=9)"),
        (None, {"perplexity": "9.8"}, None, "perplexity 9.8 (n=9)"),
    ],
)
def test_the_verdict_s_message_says_what_the_evaluation_found(
    base: dict[str, str] | None, tuned: dict[str, str], test: str | None, message: str
) -> None:
    document: dict[str, Any] = {"summary": "perplexity 9.8", "examples": 9, "tuned": tuned}
    document |= {"base": base} if base else {}
    document |= {"pairedTest": {"baseOnly": 1, "tunedOnly": 2, "pValue": test}} if test else {}
    assert evaluation_message(EvaluationStatus.model_validate(document)) == message


def test_a_long_message_is_cut_to_one_line_that_fits() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 2000) == "x" * 1023 + "…"


def test_advice_stays_whole_behind_a_message_that_is_cut() -> None:
    message = with_advice(Reason.DATASET_INVALID, "x" * 2000)
    assert message.endswith(f"x…; {FAILURES[Reason.DATASET_INVALID].advice}")
    assert len(message) == MAX_MESSAGE
