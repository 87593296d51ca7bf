"""The operator's plan as a table: a job, its children and what was looked up in, the next step out."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finetune_api.base import canonical_json, format_time
from finetune_api.reasons import FAILURES, Reason, Retry, exit_code
from finetune_api.status import FineTuneJobStatus
from finetune_operator.children import Job, Pod
from finetune_operator.job_object import JobObject, read_job
from finetune_operator.observed import observe
from finetune_operator.plan import plan
from finetune_operator.profile import LoadedProfile, Profile, ProfileProblem
from finetune_operator.steps import CreateConfig, CreateJob, DeleteJob, Facts, LookUp, Need, Settle, Setup, Step

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UID = "11111111-aaaa"
OLD_UID = "00000000-dead"
SETUP = Setup(LoadedProfile("default", Profile(image="registry.example/trainer:1"), "f" * 64))
READY = Facts(setup=SETUP, config_ready=True)
SPEC: dict[str, Any] = {
    "model": {"source": "pvc://models/base"},
    "dataset": {"source": "pvc://data/rows"},
    "evaluation": {"dataset": {"source": "pvc://data/rows"}},
    "output": {"destination": "pvc://models/run"},
}
TRAINING = {"steps": 200, "firstLoss": "2.31", "finalLoss": "0.312", "runtimeSeconds": 102, "trainedTokens": 10200}
ADAPTER = {"uri": "pvc://models/run/adapter", "sha256": "b" * 64, "sizeBytes": 45, "files": 3}
EVALUATION = {"summary": "0.41→0.45", "examples": 1273, "tuned": {"accuracy": "0.447"}}


def job(status: dict[str, Any] | FineTuneJobStatus | None = None, **changes: Any) -> JobObject:
    """The FineTuneJob 'medqa'. ``changes`` replace fields of its spec; None removes one."""
    spec = {name: value for name, value in (copy.deepcopy(SPEC) | changes).items() if value is not None}
    metadata = {"name": "medqa", "namespace": "ml", "uid": UID, "generation": 1, "resourceVersion": "7"}
    raw_status = status.to_api() if isinstance(status, FineTuneJobStatus) else status
    return read_job({"metadata": metadata, "spec": spec, "status": raw_status or {}})


def child(stage: str = "train", uid: str = "job-1", owner: str = UID, age: float = 60, **condition: str) -> Job:
    """A stage's Job; ``condition`` is one condition of its status."""
    metadata = {
        "name": f"medqa-{stage}",
        "namespace": "ml",
        "uid": uid,
        "creationTimestamp": _ago(age),
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": {"train": "train", "eval": "evaluate"}[stage]},
        "annotations": {"finetune.dev/profile-sha256": "f" * 64},
        "ownerReferences": [{"kind": "FineTuneJob", "name": "medqa", "uid": owner, "controller": True}],
    }
    conditions = [{"status": "True", **condition}] if condition else []
    return Job.model_validate({"metadata": metadata, "status": {"conditions": conditions}})


def pod(
    name: str = "p1", stage: str = "train", of: str = "job-1", uid: str = UID, age: float = 50, **status: Any
) -> Pod:
    """A pod of a stage's Job, on a node unless it is unscheduled."""
    conditions = status.pop("conditions", [])
    metadata = {
        "name": name,
        "namespace": "ml",
        "uid": f"uid-{name}",
        "creationTimestamp": _ago(age),
        "deletionTimestamp": status.pop("deletionTimestamp", None),
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": stage, "finetune.dev/job-uid": uid},
        "ownerReferences": [{"kind": "Job", "name": "x", "uid": of, "controller": True}],
    }
    state = status.pop("state", None)
    return Pod.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "" if conditions and conditions[0]["type"] == "PodScheduled" else "node-1",
                "containers": [{"image": "registry.example/trainer:1"}],
            },
            "status": {
                "phase": "Running",
                "startTime": _ago(age - 1),
                "conditions": conditions,
                "containerStatuses": [{"imageID": "", "state": state}] if state else [],
                **status,
            },
        }
    )


def ended(name: str = "p1", code: int = 0, message: str = "", reason: str = "", **more: Any) -> Pod:
    """A pod whose container has ended."""
    terminated = {"exitCode": code, "message": message, "reason": reason, "finishedAt": format_time(NOW)}
    by_kubelet = dict(zip(("reason", "message"), more.pop("note", ()), strict=False))
    return pod(name, phase="Failed" if code else "Succeeded", state={"terminated": terminated}, **by_kubelet, **more)


def message(stage: str, uid: str = UID, **sections: Any) -> str:
    """A termination message of this job's spec."""
    spec = job().spec
    assert spec is not None
    whole = {"version": 1, "stage": stage, "jobUID": uid, "specSha256": spec.sha256(), "finishedAt": format_time(NOW)}
    return canonical_json(whole | sections)


def trained(uid: str = UID) -> str:
    """A trainer's result."""
    return message("Train", uid, training=TRAINING, adapter=ADAPTER)


def decide(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> Step:
    """One question to the plan."""
    jobs = [one for one in children if isinstance(one, Job)]
    pods = [one for one in children if isinstance(one, Pod)]
    return plan(subject, observe(subject, jobs, pods), facts, now)


def settled(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> FineTuneJobStatus:
    """The status that the plan settles on."""
    step = decide(subject, *children, facts=facts, now=now)
    assert isinstance(step, Settle), step
    return step.status


def verdict(status: FineTuneJobStatus) -> tuple[str, str]:
    """Status and reason of Succeeded."""
    found = status.condition("Succeeded")
    assert found is not None
    return found.status, found.reason


def after_training() -> FineTuneJobStatus:
    """The status once training is recorded."""
    return settled(job(), child(), ended(message=trained()))


def _ago(seconds: float) -> str:
    return format_time(NOW - timedelta(seconds=seconds))


# --- starting ---------------------------------------------------------------------------------------------------


def test_a_new_job_asks_for_its_setup_then_creates_the_configuration_then_the_training_job() -> None:
    assert decide(job(), facts=Facts()) == LookUp(Need.SETUP)
    assert isinstance(decide(job(), facts=Facts(setup=SETUP)), CreateConfig)
    step = decide(job(), facts=READY)
    assert isinstance(step, CreateJob)
    assert step.stage == "Train"


def test_the_first_status_has_conditions_a_start_time_and_the_job_uid() -> None:
    status = settled(job(), child(age=0))
    assert status.stage == "Pending"
    assert (status.start_time, status.observed_generation) == (NOW, 1)
    assert [(one.type, one.status) for one in status.conditions] == [
        ("Succeeded", "Unknown"),
        ("Trained", "Unknown"),
        ("Evaluated", "Unknown"),
        ("Reconciling", "True"),
    ]
    assert [(one.stage, one.number, one.job_uid, one.pod) for one in status.attempts] == [("Train", 1, "job-1", None)]


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    deleted = job()
    deleted = replace(deleted, metadata=deleted.metadata.model_copy(update={"deletion_timestamp": NOW}))
    assert decide(deleted, facts=Facts()) == Settle(deleted.status)


def test_a_spec_that_the_schema_let_through_fails_with_the_field_s_name() -> None:
    status = settled(job(dataset={"source": "pvc://data/rows", "promptTemplate": "{question} {nonsense}"}))
    assert verdict(status) == ("False", "InvalidSpec")
    assert status.failure is not None
    assert status.failure.message.startswith("spec.dataset.promptTemplate: unknown placeholder {nonsense}")


def test_a_missing_profile_is_no_failure_and_is_looked_for_again() -> None:
    step = decide(job(), facts=Facts(setup=Setup(ProfileProblem("there is no profile 'x'"))))
    assert isinstance(step, Settle)
    assert verdict(step.status) == ("Unknown", "ProfileNotFound")
    assert step.revisit == 15


def test_the_gateway_s_certificate_is_waited_for_a_minute_and_no_longer() -> None:
    facts = Facts(setup=replace(SETUP, gateway_url="https://gateway"))
    early = decide(job(), facts=facts)
    assert isinstance(early, Settle)
    assert early.revisit == 5
    late = decide(job(early.status), facts=facts, now=NOW + timedelta(seconds=60))
    assert isinstance(late, CreateConfig)
    assert late.order.gateway is None
    there = decide(job(), facts=Facts(setup=replace(SETUP, gateway_url="https://gateway", gateway_ca="PEM")))
    assert isinstance(there, CreateConfig)
    assert there.order.gateway is not None


def test_a_foreign_object_of_a_child_s_name_fails_the_job_and_a_namesake_s_child_is_waited_for() -> None:
    status = settled(job(), facts=replace(READY, conflict="Job medqa-train exists already"))
    assert verdict(status) == ("False", "NameConflict")
    step = decide(job(), facts=replace(READY, stale="Job medqa-train"))
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", "Pending"), 5)


def test_nothing_starts_while_a_pod_of_an_earlier_run_may_still_write_to_the_same_place() -> None:
    step = decide(job(), pod("old", of="gone", uid=OLD_UID))
    assert isinstance(step, Settle)
    assert "until pod old of an earlier run has ended" in step.status.conditions[0].message
    assert isinstance(decide(job(), ended("old", 1, of="gone", uid=OLD_UID)), CreateJob)


def test_a_refused_job_shows_the_api_server_s_words() -> None:
    status = settled(job(), facts=replace(READY, refusal="Job medqa-train was refused: denied by policy"))
    assert verdict(status) == ("Unknown", "PodRejected")


# --- waiting ----------------------------------------------------------------------------------------------------

UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
WAITING = [
    ("running", pod(), "Training", "pod p1 runs on node node-1"),
    ("starting", pod(phase="Pending"), "Pending", "waiting for a pod of Job medqa-train to run"),
    ("unschedulable", pod(phase="Pending", conditions=[UNSCHEDULABLE]), "Unschedulable", "0/3 nodes"),
    (
        "pulling",
        pod(phase="Pending", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
        "ImagePullFailed",
        "ErrImagePull: not found",
    ),
    (
        "refused by the kubelet",
        pod(phase="Pending", state={"waiting": {"reason": "CreateContainerConfigError", "message": "runs as root"}}),
        "PodRejected",
        "CreateContainerConfigError: runs as root",
    ),
    (
        "on a lost node",
        pod(deletionTimestamp=_ago(31)),
        "NodeLost",
        "pod p1 on node node-1 should have ended at 11:59:29 UTC",
    ),
]


@pytest.mark.parametrize(("found", "reason", "words"), [row[1:] for row in WAITING], ids=[row[0] for row in WAITING])
def test_a_stage_that_waits_shows_why_and_is_not_failed(found: Pod, reason: str, words: str) -> None:
    status = settled(job(), child(), found)
    assert verdict(status) == ("Unknown", reason)
    assert status.conditions[0].message.startswith(words)
    assert status.stage == ("Training" if reason == "Training" else "Pending")
    assert status.condition("Stalled") is None


def test_a_missing_claim_fails_the_job_only_after_its_grace() -> None:
    waiting = pod(phase="Pending", age=50, conditions=[UNSCHEDULABLE])
    early = decide(job(), child(), waiting)
    assert isinstance(early, Settle)
    assert early.revisit == 10
    later = NOW + timedelta(seconds=10)
    assert decide(job(), child(), waiting, now=later) == LookUp(Need.CLAIMS)
    there = settled(job(), child(), waiting, facts=replace(READY, missing_claims=()), now=later)
    assert verdict(there) == ("Unknown", "Unschedulable")
    gone = settled(job(), child(), waiting, facts=replace(READY, missing_claims=("models",)), now=later)
    assert verdict(gone) == ("False", "VolumeNotFound")
    assert "no PersistentVolumeClaim ml/models" in gone.conditions[0].message
    assert decide(job(gone), child(), waiting, now=later) == DeleteJob("medqa-train", "job-1", "the job has failed")


def test_a_job_without_pods_is_asked_about_once_its_pod_is_due() -> None:
    early = decide(job(), child(age=2))
    assert isinstance(early, Settle)
    assert early.revisit == 3
    assert decide(job(), child(age=5)) == LookUp(Need.REJECTION)
    rejected = settled(job(), child(age=5), facts=replace(READY, rejection="exceeded quota"))
    assert (verdict(rejected), rejected.conditions[0].message) == (("Unknown", "PodRejected"), "exceeded quota")
    quiet = settled(job(), child(age=5), facts=replace(READY, rejection=""))
    assert verdict(quiet) == ("Unknown", "Pending")


def test_the_kubelet_s_back_off_does_not_rewrite_the_pull_error() -> None:
    def pulling(reason: str, message: str) -> Pod:
        return pod(phase="Pending", state={"waiting": {"reason": reason, "message": message}})

    first = settled(job(), child(), pulling("ErrImagePull", "manifest unknown"))
    assert settled(job(first), child(), pulling("ImagePullBackOff", "Back-off pulling image")) == first


# --- attempts and failures --------------------------------------------------------------------------------------


def test_a_pod_that_runs_becomes_the_attempt_that_was_recorded_with_the_job() -> None:
    recorded = settled(job(), child(age=0))
    status = settled(job(recorded), child(), pod())
    attempt = status.attempts[0]
    assert [attempt.pod, attempt.node, attempt.number, attempt.end_time] == ["p1", "node-1", 1, None]


@pytest.mark.parametrize("reason", [one for one in FAILURES.values() if one.exit_code], ids=lambda one: one.reason)
def test_an_exit_code_without_a_result_still_tells_its_reason_and_advice(reason: Any) -> None:
    failed = child(type="Failed", reason="PodFailurePolicy")
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


def test_a_pod_that_outgrew_its_scratch_space_or_its_grace_period_is_no_memory_kill() -> None:
    failed, facts = child(type="Failed", reason="PodFailurePolicy"), replace(READY, pods_listed=True)
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. "
    evicted = settled(job(), failed, ended("p1", 137, note=("Evicted", words)), facts=facts)
    assert verdict(evicted) == ("False", "StorageFull")
    assert (
        "exceeds the total limit of containers 50Gi; raise limits of ephemeral-storage" in evicted.conditions[0].message
    )
    deleted = settled(job(), failed, ended("p1", 137, deletionTimestamp=_ago(1)), facts=facts)
    assert verdict(deleted) == ("False", "TrainerCrashed")


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


# --- results ----------------------------------------------------------------------------------------------------


def test_a_training_result_is_written_before_the_evaluation_starts() -> None:
    step = decide(job(), child(), ended(message=trained()))
    assert isinstance(step, Settle)
    status = step.status
    assert (status.holds("Trained"), status.stage, step.revisit) == (True, "Evaluating", 0)
    assert status.training is not None
    assert status.adapter is not None
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss, status.progress.tokens_per_second) == (
        "200/200",
        "0.312",
        100,
    )
    assert status.lineage is not None
    assert (status.lineage.image, status.lineage.profile_sha256) == ("registry.example/trainer:1", "f" * 64)
    following = decide(job(status))
    assert isinstance(following, CreateJob)
    assert following.stage == "Evaluate"


def test_a_recorded_stage_is_never_created_again_though_its_job_and_pods_vanish() -> None:
    status = after_training()
    for children in ((), (child("eval", "job-2"),)):
        step = decide(job(status), *children)
        assert not isinstance(step, CreateJob) or step.stage == "Evaluate"


def test_without_an_evaluation_training_is_success() -> None:
    subject = job(evaluation=None)
    assert subject.spec is not None
    whole = {"version": 1, "stage": "Train", "jobUID": UID, "specSha256": subject.spec.sha256()}
    text = canonical_json(whole | {"finishedAt": format_time(NOW), "training": TRAINING, "adapter": ADAPTER})
    status = settled(subject, child(), ended(message=text))
    assert (verdict(status), status.stage) == (("True", "Completed"), "Succeeded")
    assert status.condition("Evaluated") is None


def test_an_evaluation_result_is_the_verdict_and_keeps_the_loss_in_progress() -> None:
    report = message("Evaluate", evaluation=EVALUATION)
    status = settled(
        job(after_training()), child("eval", "job-2"), ended("e1", message=report, stage="evaluate", of="job-2")
    )
    assert verdict(status) == ("True", "Completed")
    assert status.conditions[0].message == "accuracy 0.447 (n=1273)"
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss) == ("1273/1273", "0.312")
    reconciling = status.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.status == "False"
    assert status.completion_time == NOW


def test_a_failed_evaluation_keeps_the_adapter() -> None:
    failed = child("eval", "job-2", type="Failed", reason="PodFailurePolicy")
    words = {"reason": "EvaluationFailed", "message": "the test split is empty"}
    gone = ended("e1", 72, message("Evaluate", failure=words), stage="evaluate", of="job-2")
    status = settled(job(after_training()), failed, gone, facts=replace(READY, pods_listed=True))
    assert verdict(status) == ("False", "EvaluationFailed")
    assert status.holds("Trained")
    assert status.adapter is not None


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", trained(OLD_UID), message("Evaluate", evaluation=EVALUATION), message("Train", training=TRAINING)],
    ids=["none", "no result", "a namesake's", "another stage's", "half a result"],
)
def test_a_completed_job_without_a_result_of_its_own_runs_again_once(text: str) -> None:
    complete = child(type="Complete")
    pods = ended(message=text)
    assert decide(job(), complete, pods) == LookUp(Need.PODS)
    listed = replace(READY, pods_listed=True)
    first = decide(job(), complete, pods, facts=listed)
    assert isinstance(first, Settle)
    assert first.status.attempts[0].reason == "ResultLost"
    assert first.status.training is None
    assert isinstance(decide(job(first.status), complete, pods, facts=listed), DeleteJob)
    again = child(uid="job-2", type="Complete")
    second = ended("p2", message=text, of="job-2")
    status = settled(job(first.status), again, second, facts=listed)
    assert verdict(status) == ("False", "TrainerCrashed")


def test_a_pod_or_job_of_another_object_is_not_looked_at() -> None:
    for strangers in (
        (child(), ended(message=trained(), uid=OLD_UID)),
        (child(), ended(message=trained(), of="somebody-s-job")),
        (child(owner=OLD_UID), ended(message=trained())),
    ):
        step = decide(job(), *strangers, facts=replace(READY, rejection=""))
        assert not isinstance(step, Settle) or not step.status.holds("Trained")


@pytest.mark.parametrize("value", ["True", "False"])
def test_a_finished_job_never_starts_anything(value: str) -> None:
    done = {"type": "Succeeded", "status": value, "reason": "X", "lastTransitionTime": format_time(NOW)}
    subject = job({"observedGeneration": 1, "conditions": [done]})
    assert decide(subject, facts=READY) == Settle(subject.status)


def test_a_lost_child_of_a_recorded_attempt_is_made_again() -> None:
    status = settled(job(), child(age=0))
    step = decide(job(status))
    assert isinstance(step, CreateJob)
    anew = settled(job(status), child(uid="job-2", age=0))
    assert [(one.number, one.job_uid) for one in anew.attempts] == [(1, "job-2")]
