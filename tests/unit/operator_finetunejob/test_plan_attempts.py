"""How the operator's plan records attempts and decides on failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_api.reasons import FAILURES, Reason, Retry, exit_code
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, Settle
from plan_questions import (
    NOW,
    READY,
    ago,
    child,
    decide,
    ended,
    job,
    message,
    pod,
    settled,
    verdict,
)


def test_a_pod_that_runs_becomes_the_attempt_that_was_recorded_with_the_job() -> None:
    recorded = settled(job(), child(age=0))
    status = settled(job(recorded), child(), pod())
    attempt = status.attempts[0]
    assert [attempt.pod, attempt.node, attempt.number, attempt.end_time] == ["p1", "node-1", 1, None]


@pytest.mark.parametrize("reason", [one for one in FAILURES.values() if one.exit_code], ids=lambda one: one.reason)
def test_an_exit_code_without_a_result_still_tells_its_reason_and_advice(reason: Any) -> None:
    why = "BackoffLimitExceeded" if reason.retry is Retry.COUNTS else "PodFailurePolicy"
    failed = child(type="Failed", reason=why)
    status = settled(job(), failed, ended("p1", reason.exit_code), facts=replace(READY, pods_listed=True))
    assert status.attempts[0].reason == reason.reason
    assert status.crashes == (1 if reason.retry is Retry.COUNTS else None)
    if reason.retry is not Retry.FREE:
        assert status.failure is not None
        assert status.failure.reason == reason.reason
        assert reason.retry is not Retry.NEVER or status.failure.message.endswith(reason.advice)


ENDINGS = [
    ("preempted", {"code": 137, "conditions": [{"type": "DisruptionTarget", "status": "True"}]}, "Preempted", None),
    (
        "its node gone",
        {"code": 1, "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]},
        "NodeLost",
        None,
    ),
    ("interrupted", {"code": exit_code(Reason.INTERRUPTED)}, "Interrupted", None),
    ("crashed", {"code": 1}, "TrainerCrashed", 1),
    ("killed by a signal", {"code": 139}, "TrainerCrashed", 1),
]


@pytest.mark.parametrize(("how", "reason", "crashes"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_an_ended_attempt_is_recorded_once_and_the_job_goes_on(how: dict[str, Any], reason: str, crashes: int) -> None:
    status = settled(job(), child(), ended(**how))
    assert (status.attempts[0].reason, status.crashes) == (reason, crashes)
    assert verdict(status) == ("Unknown", "Pending")
    assert settled(job(status), child(), ended(**how)) == status


def test_more_crashes_than_the_limit_fail_the_job_with_the_last_log() -> None:
    failed = child(type="Failed", reason="BackoffLimitExceeded")
    pods = [ended("p1", 1, "first", age=50), ended("p2", 1, "second", age=40)]
    status = settled(job(scheduling={"backoffLimit": 1}), failed, *pods, facts=replace(READY, pods_listed=True))
    assert status.failure is not None
    assert (status.failure.reason, status.failure.log, status.crashes) == ("TrainerCrashed", "second", 2)
    assert "more crashes than scheduling.backoffLimit 1 allows" in status.failure.message
    assert (status.stage, status.holds("Stalled"), status.completion_time) == ("Failed", True, NOW)


def test_memory_kills_name_the_limit_whether_or_not_the_node_says_oom() -> None:
    failed = child(type="Failed", reason="PodFailurePolicy")
    for reason, words in (("OOMKilled", "was killed at"), ("Error", "most likely at")):
        facts = replace(READY, pods_listed=True)
        status = settled(job(), failed, ended("p1", 137, reason=reason), facts=facts)
        assert status.failure is not None
        assert status.failure.reason == "OutOfMemory"
        assert f"{words} its memory limit of 16Gi; raise spec.runtime.resources" in status.failure.message


OUTGREW = ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. ")
STOPPED = {"reason": "Interrupted", "message": "told to stop", "log": "step 70"}


def test_a_pod_that_outgrew_its_scratch_space_fails_the_job_whatever_it_says_and_though_its_policy_lets_it_live() -> (
    None
):
    killed = settled(
        job(),
        child(type="Failed", reason="PodFailurePolicy"),
        ended("p1", 137, note=OUTGREW),
        facts=replace(READY, pods_listed=True),
    )
    assert verdict(killed) == ("False", "StorageFull")
    for replacement in ((), (pod("p2", age=10),)):
        stopped = ended("p1", 75, message("Train", failure=STOPPED), note=OUTGREW)
        status = settled(job(), child(), stopped, *replacement)
        assert verdict(status) == ("False", "StorageFull")
        assert status.failure is not None
        assert (status.failure.log, status.attempts[0].reason) == ("step 70", "StorageFull")
        assert "exceeds the total limit of containers 50Gi; raise limits of ephemeral-storage" in status.failure.message
        assert isinstance(decide(job(status), child(), stopped), DeleteJob)


def test_a_mistake_that_the_job_s_policy_sees_is_left_to_it_so_that_the_pod_s_log_stays() -> None:
    assert verdict(settled(job(), child(), ended("p1", 67))) == ("Unknown", "Pending")


def test_a_pod_that_came_to_a_node_without_room_is_tried_again() -> None:
    refused = pod("p1", phase="Failed", reason="Evicted", message="The node had condition: [DiskPressure]. ")
    status = settled(job(), child(), refused)
    assert (verdict(status), status.attempts[0].reason) == (("Unknown", "Pending"), "TrainerCrashed")


@pytest.mark.parametrize(
    ("how", "reason", "crashes"),
    [
        ({"deletionTimestamp": ago(1)}, "TrainerCrashed", 1),
        ({"reason": "ContainerStatusUnknown"}, "NodeLost", None),
    ],
    ids=["deleted and killed", "lost by its node"],
)
def test_a_job_that_its_policy_stopped_at_a_kill_which_is_no_mistake_makes_way_for_a_new_one(
    how: dict[str, Any], reason: str, crashes: int | None
) -> None:
    stopped, facts = child(type="Failed", reason="PodFailurePolicy"), replace(READY, pods_listed=True)
    first = decide(job(), stopped, ended("p1", 137, **how), facts=facts)
    assert isinstance(first, Settle)
    assert (verdict(first.status), first.revisit) == (("Unknown", "Pending"), 0)
    assert (first.status.attempts[0].reason, first.status.crashes) == (reason, crashes)
    for children in ((stopped, ended("p1", 137, **how)), (stopped,)):  # a deleted pod is soon gone
        step = decide(job(first.status), *children, facts=facts)
        assert isinstance(step, DeleteJob)
        assert step.uid == "job-1"
    assert isinstance(decide(job(first.status)), CreateJob)


def test_a_killed_pod_that_was_one_crash_too_many_fails_the_job() -> None:
    stopped, facts = child(type="Failed", reason="PodFailurePolicy"), replace(READY, pods_listed=True)
    limited = job(scheduling={"backoffLimit": 0})
    status = settled(limited, stopped, ended("p1", 137, deletionTimestamp=ago(1)), facts=facts)
    assert verdict(status) == ("False", "TrainerCrashed")
    assert "more crashes than scheduling.backoffLimit 0 allows; the last: pod p1" in status.conditions[0].message


def test_a_job_that_failed_of_something_else_says_nothing_of_the_back_off_limit() -> None:
    failed = child(type="Failed", reason="DeadlineExceeded")
    status = settled(job(), failed, ended("p1", 1), facts=replace(READY, pods_listed=True))
    assert verdict(status) == ("False", "TrainerCrashed")
    assert status.conditions[0].message.startswith("pod p1 ended with exit code 1")


def test_a_stopped_job_whose_pod_nobody_saw_end_fails_rather_than_to_repeat_a_mistake() -> None:
    running = settled(job(), child(), pod())
    stopped = child(type="Failed", reason="PodFailurePolicy", message="exit code 67")
    status = settled(job(running), stopped, facts=replace(READY, pods_listed=True))
    assert verdict(status) == ("False", "TrainerCrashed")
    assert "exit code 67" in status.conditions[0].message


def test_a_failed_job_keeps_what_was_reached_and_drops_the_estimate() -> None:
    progress = {"stage": "Train", "step": 70, "summary": "70/200", "remainingSeconds": 90, "remaining": "1m 30s"}
    failed, facts = child(type="Failed", reason="PodFailurePolicy"), replace(READY, pods_listed=True)
    status = settled(job({"progress": progress}), failed, ended("p1", 70), facts=facts)
    assert status.progress is not None
    assert (status.progress.summary, status.progress.remaining, status.progress.remaining_seconds) == (
        "70/200",
        "",
        None,
    )


def test_attempts_beyond_the_last_ten_are_dropped_and_do_not_come_back() -> None:
    pods = [ended(f"p{number:02}", 75, age=500 - 10 * number) for number in range(13)]
    status = settled(job(), child(), *pods)
    assert [one.number for one in status.attempts] == list(range(4, 14))
    assert settled(job(status), child(), *pods) == status


def test_an_attempt_whose_pod_has_vanished_is_closed() -> None:
    running = settled(job(), child(), pod())
    status = settled(job(running), child(), facts=replace(READY, rejection=""))
    assert (status.attempts[0].reason, status.attempts[0].end_time) == ("Interrupted", NOW)
