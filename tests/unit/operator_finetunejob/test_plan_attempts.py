"""How the operator's plan records attempts, keeps to a stage's budget and decides on failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from finetune_api.reasons import FAILURES, Reason, Retry, exit_code
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, Write
from plan_questions import (
    LISTED,
    NOW,
    READY,
    after_training,
    ago,
    child,
    decide,
    ended,
    job,
    message,
    pod,
    refused,
    settled,
    verdict,
    words,
)

# The Job controller said nothing of why there is no next pod yet.
QUIET = replace(READY, warnings=())
STOPPED_JOB = child(type="Failed", reason="PodFailurePolicy")
SPENT_JOB = child(type="Failed", reason="BackoffLimitExceeded")


def test_a_pod_that_runs_is_an_attempt_and_a_job_without_pods_is_none() -> None:
    recorded = settled(job(), child(age=0))
    assert recorded.attempts == []
    status = settled(job(recorded), child(), pod())
    attempt = status.attempts[0]
    assert [attempt.pod, attempt.pod_uid, attempt.node, attempt.number, attempt.end_time] == [
        "p1",
        "uid-p1",
        "node-1",
        1,
        None,
    ]
    assert (status.stages[0].attempts, status.stages[0].job_uid) == (1, "job-1")


@pytest.mark.parametrize("reason", [one for one in FAILURES.values() if one.exit_code], ids=lambda one: one.reason)
def test_an_exit_code_without_a_result_still_tells_its_reason_and_advice(reason: Any) -> None:
    counts = reason.retry is Retry.COUNTS
    failed, limit = (SPENT_JOB, 0) if counts else (STOPPED_JOB, 3)
    status = settled(job(scheduling={"backoffLimit": limit}), failed, ended("p1", reason.exit_code), facts=LISTED)
    assert status.attempts[0].reason == reason.reason
    assert status.stages[0].crashes == int(counts)
    if reason.retry is not Retry.FREE:
        assert status.failure is not None
        assert status.failure.reason == reason.reason
        assert reason.retry is not Retry.NEVER or status.failure.message.endswith(reason.advice)


def disrupted(reason: str, code: int = 137, **more: Any) -> dict[str, Any]:
    """How a pod ends that Kubernetes disrupts."""
    return {"code": code, "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}], **more}


SHORT = ("Evicted", "The node was low on resource: ephemeral-storage. Container trainer was using 9Gi. ")
ENDINGS = [
    ("preempted", disrupted("PreemptionByScheduler"), "Preempted", 0),
    ("drained, though it said a mistake", disrupted("EvictionByEvictionAPI", 67), "Preempted", 0),
    ("its node gone", disrupted("DeletionByPodGC", 1), "NodeLost", 0),
    ("its node short of something", disrupted("TerminationByKubelet", note=SHORT), "NodePressure", 0),
    ("the same from a kubelet that sets no condition", {"code": 137, "note": SHORT}, "NodePressure", 0),
    ("interrupted", {"code": exit_code(Reason.INTERRUPTED)}, "Interrupted", 0),
    ("told to wait for its folder", {"code": exit_code(Reason.FOLDER_BUSY)}, "FolderBusy", 0),
    ("crashed", {"code": 1}, "TrainerCrashed", 1),
    ("killed by a signal", {"code": 139}, "TrainerCrashed", 1),
]


@pytest.mark.parametrize(("how", "reason", "crashes"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_an_ended_attempt_is_recorded_once_and_the_job_goes_on(how: dict[str, Any], reason: str, crashes: int) -> None:
    status = settled(job(), child(), ended(**how))
    assert (status.attempts[0].reason, status.stages[0].crashes) == (reason, crashes)
    assert verdict(status) == ("Unknown", "Pending")
    said = f"attempt 1 ended ({reason}); Job medqa-train starts again, from the last checkpoint if there is one"
    assert words(status) == said
    assert settled(job(status), child(), ended(**how)) == status


REFUSALS = [
    "UnexpectedAdmissionError",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfnvidia.com/gpu",
    "NodeAffinity",
    "NodeShutdown",
]


@pytest.mark.parametrize("reason", [*REFUSALS, "NodeShutdown", "Evicted"])
def test_a_pod_that_no_kubelet_admits_is_the_node_s_fault_and_tried_again_a_few_times(reason: str) -> None:
    said = "The node had condition: [DiskPressure]. " if reason == "Evicted" else "Allocate failed"
    limit = FAILURES[Reason.NODE_REFUSED].limit
    assert limit is not None
    pods = [refused(f"p{number}", reason, said, age=100 - number) for number in range(limit + 1)]
    status = settled(job(), child(), *pods[:-1], facts=QUIET)
    assert {one.reason for one in status.attempts} == {"NodeRefused"}
    assert (verdict(status), status.stages[0].crashes) == (("Unknown", "Pending"), 0)
    over = settled(job(status), child(), *pods)
    assert verdict(over) == ("False", "NodeRefused")
    assert words(over).startswith(f"{limit + 1} times: node node-1 did not admit pod p5: {reason}: {said.strip('. ')}")
    assert words(over).endswith("check the node's kubelet and device plugin")
    assert over.failure is not None
    assert over.failure.log is None


def test_a_job_that_counted_refusals_as_crashes_makes_way_while_the_stage_s_budget_lasts() -> None:
    pods = [refused(f"p{number}", "UnexpectedAdmissionError", "no device", age=90 - number) for number in range(4)]
    first = decide(job(), SPENT_JOB, *pods, facts=LISTED)
    assert isinstance(first, Write)
    assert isinstance(decide(job(first.status), SPENT_JOB, *pods, facts=LISTED), DeleteJob)
    again = decide(job(first.status))
    assert isinstance(again, CreateJob)
    assert again.crashes == 0


COUNTED = [one.exit_code for one in FAILURES.values() if one.retry is Retry.COUNTS]


@pytest.mark.parametrize("code", [*COUNTED, 139])
def test_whatever_counts_as_a_crash_makes_way_too_when_refusals_used_up_what_the_job_may_fail(code: int) -> None:
    """A GPU that fell off its bus: its node refuses a pod, another loses the device."""
    limited = {"scheduling": {"backoffLimit": 1}}
    pods = [refused("p1", "UnexpectedAdmissionError", "no healthy device", age=90), ended("p2", code, age=80)]
    first = decide(job(**limited), SPENT_JOB, *pods, facts=LISTED)
    assert isinstance(first, Write)
    assert isinstance(decide(job(first.status, **limited), SPENT_JOB, *pods, facts=LISTED), DeleteJob)
    again = decide(job(first.status, **limited))
    assert isinstance(again, CreateJob)
    assert again.crashes == 1


def test_so_does_a_crash_that_a_newer_trainer_has_a_word_for() -> None:
    crash = ended("p1", 1, message("Train", failure={"reason": "FabricLost", "message": "NVLink is down"}), age=80)
    pods = [refused("p0", "UnexpectedAdmissionError", "no healthy device", age=90), crash]
    first = decide(job(scheduling={"backoffLimit": 1}), SPENT_JOB, *pods, facts=LISTED)
    assert isinstance(first, Write)
    assert (first.status.attempts[1].reason, first.status.stages[0].crashes) == ("FabricLost", 1)
    after = decide(job(first.status, scheduling={"backoffLimit": 1}), SPENT_JOB, *pods, facts=LISTED)
    assert isinstance(after, DeleteJob)


def test_evictions_for_the_node_s_sake_come_to_an_end_with_advice() -> None:
    pods = [
        ended(f"p{number}", **disrupted("TerminationByKubelet", note=SHORT, age=90 - number)) for number in range(4)
    ]
    assert verdict(settled(job(), child(), *pods[:3], facts=QUIET)) == ("Unknown", "Pending")
    over = settled(job(), child(), *pods)
    assert verdict(over) == ("False", "NodePressure")
    assert "4 times: pod p3 was evicted: Evicted: The node was low on resource: ephemeral-storage" in words(over)
    assert words(over).endswith("or have the profile name a cacheClaim")


def test_more_crashes_than_the_limit_fail_the_job_with_the_last_log() -> None:
    pods = [ended("p1", 1, "first", age=50), ended("p2", 1, "second", age=40)]
    status = settled(job(scheduling={"backoffLimit": 1}), SPENT_JOB, *pods, facts=LISTED)
    assert status.failure is not None
    assert (status.failure.reason, status.failure.log, status.stages[0].crashes) == ("TrainerCrashed", "second", 2)
    assert "more crashes than scheduling.backoffLimit 1 allows" in status.failure.message
    assert (status.stage, status.holds("Stalled"), status.completion_time) == ("Failed", True, NOW)
    said = {one.type: one.message for one in status.conditions}
    assert said["Stalled"] == "stage Train failed: TrainerCrashed"
    assert list(said.values()).count(status.failure.message) == 1


def test_a_stage_s_budget_is_its_own_and_outlives_its_job() -> None:
    limited = {"scheduling": {"backoffLimit": 1}}
    crashed = settled(job(**limited), child(), ended("p1", 1))
    assert crashed.stages[0].crashes == 1
    again = decide(job(crashed, **limited))  # somebody deleted the Job
    assert isinstance(again, CreateJob)
    assert again.crashes == 1
    second = child(uid="job-2", type="Failed", reason="BackoffLimitExceeded")
    over = settled(job(crashed, **limited), second, ended("p2", 1, of="job-2", age=30), facts=LISTED)
    assert (verdict(over), over.stages[0].crashes) == (("False", "TrainerCrashed"), 2)
    assert "more crashes than scheduling.backoffLimit 1 allows" in words(over)

    trained = after_training().to_api()
    trained["stages"][0]["crashes"] = 1
    evaluation = ended("e1", 1, stage="evaluate", of="job-2")
    status = settled(job(trained, **limited), child("eval", "job-2"), evaluation)
    assert verdict(status) == ("Unknown", "Pending")
    assert [one.crashes for one in status.stages] == [1, 1]


def test_a_container_that_fails_before_the_trainer_is_a_crash_that_names_it() -> None:
    broken = [{"name": "secrets", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]
    status = settled(
        job(scheduling={"backoffLimit": 0}),
        SPENT_JOB,
        pod(phase="Failed", state={"waiting": {"reason": "PodInitializing"}}, initContainerStatuses=broken),
        facts=LISTED,
    )
    assert (verdict(status), status.stages[0].crashes) == (("False", "TrainerCrashed"), 1)
    said = "pod p1 failed: container secrets ended badly before the trainer could start; see kubectl logs p1 -c secrets"
    assert words(status).endswith(said)


def test_memory_kills_name_the_limit_whether_or_not_the_node_says_oom() -> None:
    for reason, said in (("OOMKilled", "was killed at"), ("Error", "most likely at")):
        status = settled(job(), STOPPED_JOB, ended("p1", 137, reason=reason), facts=LISTED)
        assert status.failure is not None
        assert status.failure.reason == "OutOfMemory"
        assert f"{said} its memory limit of 16Gi; raise spec.runtime.resources" in status.failure.message


OUTGREW = ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. ")
STOPPED = {"reason": "Interrupted", "message": "told to stop", "log": "step 70"}


def test_a_pod_that_outgrew_its_scratch_space_fails_the_job_whatever_it_says_and_though_its_policy_lets_it_live() -> (
    None
):
    killed = settled(job(), STOPPED_JOB, ended("p1", 137, note=OUTGREW), facts=LISTED)
    assert verdict(killed) == ("False", "StorageFull")
    for replacement in ((), (pod("p2", age=10),)):
        stopped = ended("p1", 75, message("Train", failure=STOPPED), note=OUTGREW)
        status = settled(job(), child(), stopped, *replacement)
        assert verdict(status) == ("False", "StorageFull")
        assert status.failure is not None
        assert (status.failure.log, status.attempts[0].reason) == ("step 70", "StorageFull")
        assert "exceeds the total limit of containers 50Gi; raise limits of ephemeral-storage" in status.failure.message
        assert isinstance(decide(job(status), child(), stopped), DeleteJob)


@pytest.mark.parametrize("how", ["Error", "OOMKilled"])
def test_a_trainer_that_was_killed_while_it_left_with_its_checkpoint_written_goes_on_under_a_new_job(how: str) -> None:
    """As kubectl delete pod --force does within two seconds, and any grace that is just too short."""
    killed = ended("p1", 137, message("Train", failure=STOPPED), reason=how)
    first = decide(job(scheduling={"backoffLimit": 0}), STOPPED_JOB, killed, facts=LISTED)
    assert isinstance(first, Write)
    assert (first.status.attempts[0].reason, first.status.stages[0].crashes) == ("Preempted", 0)
    # Its pod is gone by the time that its Job is seen to have failed.
    seen = settled(job(scheduling={"backoffLimit": 0}), child(), killed)
    assert words(seen).endswith("starts again, from the last checkpoint if there is one")
    after = job(seen, scheduling={"backoffLimit": 0})
    assert isinstance(decide(after, STOPPED_JOB, facts=LISTED), DeleteJob)


@pytest.mark.parametrize(("code", "limit"), [(67, 3), (77, 3), (137, 3), (78, 0), (1, 0)])
def test_what_ends_the_stage_is_not_said_to_start_again_while_its_job_s_controller_has_yet_to_see_it(
    code: int, limit: int
) -> None:
    status = settled(job(scheduling={"backoffLimit": limit}), child(), ended("p1", code))
    assert verdict(status) == ("Unknown", "Pending")
    assert words(status) == f"attempt 1 ended ({status.attempts[0].reason}); Job medqa-train is about to fail"


def test_a_mistake_that_the_job_s_policy_sees_is_left_to_it_so_that_the_pod_s_log_stays() -> None:
    assert verdict(settled(job(), child(), ended("p1", 67))) == ("Unknown", "Pending")


@pytest.mark.parametrize(
    ("how", "reason", "crashes"),
    [
        ({"deletionTimestamp": ago(1)}, "TrainerCrashed", 1),
        ({"reason": "ContainerStatusUnknown"}, "NodeLost", 0),
    ],
    ids=["deleted and killed", "lost by its node"],
)
def test_a_job_that_its_policy_stopped_at_a_kill_which_is_no_mistake_makes_way_for_a_new_one(
    how: dict[str, Any], reason: str, crashes: int
) -> None:
    first = decide(job(), STOPPED_JOB, ended("p1", 137, **how), facts=LISTED)
    assert isinstance(first, Write)
    assert verdict(first.status) == ("Unknown", "Pending")
    assert (first.status.attempts[0].reason, first.status.stages[0].crashes) == (reason, crashes)
    for children in ((STOPPED_JOB, ended("p1", 137, **how)), (STOPPED_JOB,)):  # a deleted pod is soon gone
        step = decide(job(first.status), *children, facts=LISTED)
        assert isinstance(step, DeleteJob)
        assert step.uid == "job-1"
    assert isinstance(decide(job(first.status)), CreateJob)


def test_a_killed_pod_that_was_one_crash_too_many_fails_the_job() -> None:
    limited = job(scheduling={"backoffLimit": 0})
    status = settled(limited, STOPPED_JOB, ended("p1", 137, deletionTimestamp=ago(1)), facts=LISTED)
    assert verdict(status) == ("False", "TrainerCrashed")
    assert "more crashes than scheduling.backoffLimit 0 allows; the last: pod p1" in words(status)


def test_a_job_that_failed_of_something_else_says_nothing_of_the_back_off_limit() -> None:
    failed = child(type="Failed", reason="DeadlineExceeded")
    status = settled(job(), failed, ended("p1", 1), facts=LISTED)
    assert verdict(status) == ("False", "TrainerCrashed")
    assert words(status).startswith("pod p1 ended with exit code 1")


def test_a_stopped_job_whose_pod_nobody_saw_end_fails_rather_than_to_repeat_a_mistake() -> None:
    running = settled(job(), child(), pod())
    stopped = child(type="Failed", reason="PodFailurePolicy", message="exit code 67")
    status = settled(job(running), stopped, facts=LISTED)
    assert verdict(status) == ("False", "TrainerCrashed")
    assert "exit code 67" in words(status)


PROGRESS = {
    "stage": "Train",
    "pod": "p1",
    "step": 70,
    "summary": "70/200",
    "remainingSeconds": 90,
    "remaining": "1m 30s",
}


@pytest.mark.parametrize("code", [70, 67])
def test_a_failed_job_keeps_what_was_reached_and_promises_nothing_more(code: int) -> None:
    seen = settled(job({"progress": PROGRESS}), child(), ended("p1", code))
    status = settled(job(seen), STOPPED_JOB, ended("p1", code), facts=LISTED)
    assert status.stage == "Failed"
    assert status.progress is not None
    reached = (status.progress.summary, status.progress.remaining, status.progress.remaining_seconds)
    assert reached == ("70/200", None, None)


@pytest.mark.parametrize("how", [disrupted("PreemptionByScheduler"), {"code": 1}], ids=["preempted", "crashed"])
def test_training_s_progress_stays_when_an_attempt_ends_until_the_next_one_s_comes(how: dict[str, Any]) -> None:
    running = settled(job({"progress": PROGRESS}), child(), pod())
    assert running.progress is not None
    assert running.progress.remaining == "1m 30s"
    over = settled(job(running), child(), ended("p1", **how))
    loading = settled(job(over), child(), ended("p1", **how), pod("p2", age=5))
    for status in (over, loading):
        assert status.progress is not None
        assert (status.progress.pod, status.progress.summary, status.progress.remaining) == ("p1", "70/200", None)
    fresh = loading.to_api() | {"progress": PROGRESS | {"pod": "p2", "step": 60}}
    status = settled(job(fresh), child(), ended("p1", **how), pod("p2", age=5))
    assert status.progress is not None
    assert (status.progress.step, status.progress.remaining) == (60, "1m 30s")


def test_an_evaluation_s_progress_goes_with_its_attempt_since_the_next_one_counts_anew() -> None:
    progress = PROGRESS | {"stage": "Evaluate", "pod": "e1"}
    seen = job(after_training().to_api() | {"progress": progress})
    evaluation = child("eval", uid="job-2")
    running = settled(seen, evaluation, pod("e1", "evaluate", of="job-2"))
    assert running.progress is not None
    over = settled(job(running), evaluation, ended("e1", 1, stage="evaluate", of="job-2"))
    assert over.progress is None
    assert words(over) == "attempt 1 ended (TrainerCrashed); Job medqa-eval starts again from the beginning"


def test_attempts_beyond_the_last_ten_are_dropped_and_do_not_come_back() -> None:
    pods = [ended(f"p{number:02}", 75, age=500 - 10 * number) for number in range(13)]
    status = settled(job(), child(), *pods)
    assert [one.number for one in status.attempts] == list(range(4, 14))
    assert status.stages[0].attempts == 13
    assert settled(job(status), child(), *pods) == status


def test_pods_that_never_started_are_counted_once_however_many_are_kept() -> None:
    pods = [refused(f"p{number:02}", "", age=500 - 10 * number) for number in range(13)]
    patient = {"scheduling": {"backoffLimit": 100}}
    status = settled(job(**patient), child(), *pods, facts=QUIET)
    assert (status.stages[0].attempts, status.stages[0].crashes) == (13, 13)
    later = settled(job(status, **patient), child(), *pods, facts=QUIET, now=NOW + timedelta(hours=1))
    assert (later.stages, later.attempts) == (status.stages, status.attempts)
    more = settled(job(status, **patient), child(), *pods, refused("p13", "", age=1), facts=QUIET)
    assert (more.stages[0].attempts, more.attempts[-1].pod) == (14, "p13")


def test_time_that_attempts_ran_is_summed_over_them_and_starts_with_the_first() -> None:
    first = settled(job(), child(), ended("p1", 75, age=101, finished=NOW - timedelta(seconds=60)), facts=QUIET)
    second = settled(job(first), child(), ended("p1", 75, age=101), ended("p2", 75, age=21))
    kept = second.stages[0]
    assert (kept.active_seconds, kept.start_time) == (40 + 20, NOW - timedelta(seconds=100))


def test_an_attempt_whose_pod_has_vanished_is_closed() -> None:
    running = settled(job(), child(), pod())
    status = settled(job(running), child())
    assert (status.attempts[0].reason, status.attempts[0].end_time) == ("Interrupted", NOW)
