"""How the gates of an evaluation decide whether a job succeeds, and what they leave."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.events import announcements
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, Settle
from plan_questions import (
    EVALUATION,
    NOW,
    ago,
    child,
    decide,
    ended,
    job,
    message,
    pod,
    settled,
    trained_by,
    verdict,
    words,
)

ASKED = {"dataset": {"source": "pvc://data/rows"}, "gates": [{"metric": "Accuracy", "minimum": "0.4"}]}
RUNS = {"running": {"startedAt": ago(60)}}


def gated(status: FineTuneJobStatus | None = None, count: int = 1) -> JobObject:
    return job(status, evaluation={**ASKED, "gates": ASKED["gates"] * count})  # type: ignore[operator]


def told(*verdicts: str) -> list[dict[str, str]]:
    return [{"metric": "Accuracy", "verdict": one, "message": f"figures of {one}"} for one in verdicts]


def after(*verdicts: str, asked: int = 1, **more: Any) -> FineTuneJobStatus:
    """The status once training and evaluation are recorded."""
    subject = gated(count=asked)
    first = settled(subject, child(type="Complete"), ended(message=trained_by(subject)))
    said = message("Evaluate", of=subject, evaluation={**EVALUATION, "gates": told(*verdicts)}, **more)
    pods = ended("e1", message=said, stage="evaluate", of="job-2")
    return settled(gated(first, asked), child("eval", "job-2", type="Complete"), pods)


def condition(status: FineTuneJobStatus, kind: str = "GatesPassed") -> tuple[str, str]:
    found = status.condition(kind)
    assert found is not None
    return found.status, found.reason


def test_a_job_whose_gates_have_passed_succeeds_and_says_by_which_figures() -> None:
    status = after("Passed", "Passed", asked=2)
    assert (verdict(status), status.stage, condition(status)) == (
        ("True", "GatesPassed"),
        "Succeeded",
        ("True", "GatesPassed"),
    )
    said = "Accuracy Passed: figures of Passed"
    assert words(status) == f"accuracy 0.447 (n=1273); {said}; {said}"
    assert status.failure is None


@pytest.mark.parametrize(
    ("verdicts", "reason", "value", "said"),
    [
        (("Failed",), "GatesFailed", "False", "Accuracy Failed: figures of Failed; train otherwise, or"),
        (("Passed", "Failed"), "GatesFailed", "False", "1 of 2 gates: Accuracy Failed: figures of Failed; train"),
        (("Inconclusive", "Failed"), "GatesFailed", "False", "1 of 2 gates: Accuracy Failed: figures of Failed;"),
        (("Inconclusive",), "GatesInconclusive", "Unknown", "Accuracy Inconclusive: figures of Inconclusive; take"),
        (("Passed", "Perhaps"), "GatesInconclusive", "Unknown", "1 of 2 gates: Accuracy Perhaps: figures of Perhaps"),
        # Of an older trainer, which knows nothing of gates.
        ((), "GatesInconclusive", "Unknown", "the trainer judged 0 of 1 gates: its image is older than the operator"),
    ],
)
def test_a_gate_that_did_not_pass_fails_the_job_and_keeps_all_that_it_came_to(
    verdicts: tuple[str, ...], reason: str, value: str, said: str
) -> None:
    status = after(*verdicts, asked=max(1, len(verdicts)))
    assert (verdict(status), status.stage, condition(status)) == (("False", reason), "Failed", (value, reason))
    assert words(status).startswith(said)
    assert condition(status, "Stalled") == ("True", reason)
    assert condition(status, "Reconciling") == ("False", reason)
    assert (status.holds("Trained"), status.holds("Evaluated"), status.holds("Finished")) == (True, True, True)
    assert None not in (status.adapter, status.training, status.completion_time)
    assert status.evaluation is not None
    assert [one.verdict for one in status.evaluation.gates] == list(verdicts)
    assert status.failure is not None
    assert (status.failure.reason, status.failure.message) == (reason, words(status))
    (event,) = [one for one in announcements(gated().status, status) if one.reason == reason]
    assert event.type == "Warning"


def test_a_job_with_gates_says_from_the_first_visit_on_that_they_are_not_judged_yet() -> None:
    first = settled(gated())
    assert condition(first) == ("Unknown", "Pending")
    found = first.condition("GatesPassed")
    assert found is not None
    assert found.message == "waits for stage Evaluate"
    running = settled(gated(first), child(), pod())
    assert condition(running) == ("Unknown", "Pending")
    order = [one.type for one in running.conditions]
    assert order.index("Evaluated") + 1 == order.index("GatesPassed") == order.index("Reconciling") - 1


def test_a_job_without_gates_has_no_condition_of_them() -> None:
    assert settled(job()).condition("GatesPassed") is None


def test_a_job_that_its_gates_failed_never_starts_anything_again() -> None:
    status = after("Failed")
    assert decide(gated(status)) == Settle(status)
    assert not isinstance(decide(gated(status), child("eval", "job-2")), CreateJob)


def test_a_pod_that_a_sidecar_holds_open_has_its_grace_though_the_gates_failed() -> None:
    subject = gated()
    first = settled(subject, child(type="Complete"), ended(message=trained_by(subject)))
    said = message("Evaluate", of=subject, evaluation={**EVALUATION, "gates": told("Failed")})
    open_pod = ended("e1", message=said, stage="evaluate", of="job-2", sidecar=RUNS)
    active = child("eval", "job-2")
    status = settled(gated(first), active, open_pod)
    assert verdict(status) == ("False", "GatesFailed")
    step = decide(gated(status), active, open_pod)
    assert isinstance(step, Settle)
    assert step.revisit == 60
    late = decide(gated(status), active, open_pod, now=NOW.replace(minute=2))
    assert isinstance(late, DeleteJob)


def test_gates_of_a_reused_evaluation_decide_as_its_own_would() -> None:
    status = after("Failed", reused=True)
    assert verdict(status) == ("False", "GatesFailed")
    assert condition(status, "Evaluated") == ("True", "Reused")
