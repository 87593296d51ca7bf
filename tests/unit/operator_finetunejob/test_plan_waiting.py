"""What the operator's plan says of a stage that waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_operator.finetunejob.steps import LookUp, Need, Said, Settle
from finetune_operator.workload.objects import Pod
from plan_questions import (
    NOW,
    READY,
    ago,
    child,
    decide,
    ended,
    job,
    pod,
    settled,
    verdict,
    words,
)

UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "blocked by gates"}
CLAIMED = replace(READY, missing_claims=())
PLAIN = "waiting for a pod of Job medqa-train to run"
WAITING = [
    ("running", pod(), "Training", "pod p1 runs on node node-1"),
    ("starting", pod(phase="Pending", age=3), "Pending", PLAIN),
    ("unschedulable", pod(phase="Pending", conditions=[UNSCHEDULABLE]), "Unschedulable", "0/3 nodes"),
    ("gated", pod(phase="Pending", conditions=[GATED]), "Unschedulable", "blocked by gates"),
    (
        "pulling",
        pod(phase="Pending", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
        "ImagePullFailed",
        "ErrImagePull: not found",
    ),
    *(
        (f"waiting for {why}", pod(phase="Pending", state={"waiting": {"reason": why, "message": "so"}}), reason, said)
        for why, reason, said in (
            ("RegistryUnavailable", "ImagePullFailed", "RegistryUnavailable: so"),
            ("SignatureValidationFailed", "ImagePullFailed", "SignatureValidationFailed: so"),
            ("StartError", "PodRejected", "StartError: so"),
            ("AnErrorOfANewerKubelet", "PodRejected", "AnErrorOfANewerKubelet: so"),
        )
    ),
    (
        "behind a container that somebody injected before it",
        pod(
            phase="Pending",
            state={"waiting": {"reason": "PodInitializing"}},
            initContainerStatuses=[
                {"name": "init", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
            ],
        ),
        "ImagePullFailed",
        "container init: ImagePullBackOff: no such image",
    ),
    (
        "running though a container beside it can't start",
        pod(phase="Pending", state={"running": {}}, sidecar={"waiting": {"reason": "ErrImagePull"}}),
        "Training",
        "pod p1 runs on node node-1",
    ),
    (
        "on a node that does not answer",
        pod(conditions=[{"type": "Ready", "status": "False"}]),
        "NodeLost",
        "node node-1 does not answer: pod p1 may run on it, or not",
    ),
    (
        "running though a container beside it is not ready",
        pod(conditions=[{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]),
        "Training",
        "pod p1 runs on node node-1",
    ),
    (
        "refused by the kubelet",
        pod(phase="Pending", state={"waiting": {"reason": "CreateContainerConfigError", "message": "runs as root"}}),
        "PodRejected",
        "CreateContainerConfigError: runs as root",
    ),
    (
        "on a lost node",
        pod(deletionTimestamp=ago(31)),
        "NodeLost",
        "pod p1 on node node-1 should have ended at 11:59:29 UTC",
    ),
    ("leaving", pod(deletionTimestamp=ago(10)), "Pending", "waiting until pod p1 on node node-1, which is being"),
]


@pytest.mark.parametrize(("found", "reason", "said"), [row[1:] for row in WAITING], ids=[row[0] for row in WAITING])
def test_a_stage_that_waits_shows_why_and_is_not_failed(found: Pod, reason: str, said: str) -> None:
    status = settled(job(), child(), found, facts=CLAIMED)
    assert verdict(status) == ("Unknown", reason)
    assert words(status).startswith(said)
    assert status.stage == ("Training" if reason == "Training" else "Pending")
    assert status.condition("Stalled") is None
    finished = status.condition("Finished")
    assert finished is not None
    assert finished.status == "False"


def test_a_missing_claim_is_told_at_once_and_waited_for_as_long_as_it_takes() -> None:
    waiting = pod(phase="Pending", age=2, conditions=[UNSCHEDULABLE])
    assert decide(job(), child(), waiting) == LookUp(Need.CLAIMS)
    missing = replace(READY, missing_claims=("models",))
    for later in (timedelta(0), timedelta(days=3)):
        step = decide(job(), child(), waiting, facts=missing, now=NOW + later)
        assert isinstance(step, Settle)
        assert (verdict(step.status), step.revisit) == (("Unknown", "VolumeNotFound"), 15)
        said = "there is no PersistentVolumeClaim ml/models; create the PersistentVolumeClaim: the job then starts by"
        assert words(step.status).startswith(said)


@pytest.mark.parametrize("found", [None, pod(), pod(phase="Pending", age=2)], ids=["before", "during", "starting"])
def test_a_job_that_somebody_suspends_says_so_and_how_to_resume_it(found: Pod | None) -> None:
    progress = {"stage": "Train", "pod": "p1", "step": 70, "remainingSeconds": 90, "remaining": "1m 30s"}
    before = settled(job({"progress": progress}), child(), pod())
    status = settled(job(before), child(suspend=True), *([found] if found else []))
    assert (verdict(status), status.stage) == (("Unknown", "Suspended"), "Pending")
    assert words(status).startswith("Job medqa-train is suspended; whoever suspended the Job resumes it")
    assert "kubectl patch job medqa-train -p" in words(status)
    if found is None:  # its pod was deleted
        assert status.attempts[0].reason == "Interrupted"
    assert status.progress is not None
    assert (status.progress.step, status.progress.remaining, status.progress.remaining_seconds) == (70, None, None)
    resumed = settled(job(status), child(), pod("p2", age=1))
    assert (verdict(resumed), resumed.stages[0].crashes) == (("Unknown", "Training"), 0)


@pytest.mark.parametrize(
    ("warning", "reason", "said"),
    [
        (
            Said("FailedMount", "configmap not found"),
            "FailedMount",
            "FailedMount: configmap not found; mend",
        ),
        (
            Said("FailedMount", 'MountVolume.SetUp failed for volume "secret-0" : secret "hub" not found'),
            "FailedMount",
            'secret "hub" not found; mend the volume, or create what is not found: the pod then starts by itself',
        ),
        (Said("FailedAttachVolume", "still attached"), "FailedMount", "FailedAttachVolume: still attached; mend"),
        (Said("FailedCreatePodSandBox", "no network"), "Pending", "FailedCreatePodSandBox: no network"),
        (None, "Pending", PLAIN),
    ],
)
def test_a_pod_that_does_not_start_on_its_node_says_why_in_the_kubelet_s_words(
    warning: Said | None, reason: str, said: str
) -> None:
    stuck = pod(phase="Pending", age=60)
    early = decide(job(), child(), pod(phase="Pending", age=3))
    assert isinstance(early, Settle)
    assert early.revisit == 3
    assert decide(job(), child(), stuck) == LookUp(Need.WARNINGS, "uid-p1")
    old = Said("FailedScheduling", "0/1 nodes")  # from before it came to its node
    facts = replace(READY, warnings=tuple(filter(None, (warning, old))))
    step = decide(job(), child(), stuck, facts=facts)
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", reason), 30)
    assert said in words(step.status)


def test_a_pod_that_no_scheduler_looks_at_says_so_or_what_its_events_say() -> None:
    def unseen(age: float) -> Pod:
        found = pod(phase="Pending", age=age, startTime=None)
        return found.model_copy(update={"spec": found.spec.model_copy(update={"node_name": ""})})

    early = decide(job(), child(), unseen(3))
    assert isinstance(early, Settle)
    assert (words(early.status), early.revisit) == (PLAIN, 2)
    assert decide(job(), child(), unseen(60)) == LookUp(Need.WARNINGS, "uid-p1")
    for warnings, reason, said in (
        ((), "Pending", "pod p1 waits for a scheduler: none has said anything of it yet"),
        ((Said("FailedScheduling", "no quota"),), "Unschedulable", "pod p1: FailedScheduling: no quota"),
    ):
        status = settled(job(), child(), unseen(60), facts=replace(READY, warnings=warnings))
        assert (verdict(status), words(status)) == (("Unknown", reason), said)


def test_a_pod_whose_injected_container_runs_before_the_trainer_names_it() -> None:
    initializing = pod(
        phase="Pending",
        age=60,
        state={"waiting": {"reason": "PodInitializing"}},
        initContainerStatuses=[
            {"name": "proxy", "state": {"terminated": {"exitCode": 0}}},
            {"name": "secrets", "state": {"running": {}}},
        ],
    )
    status = settled(job(), child(), initializing, facts=replace(READY, warnings=()))
    assert words(status) == "pod p1 on node node-1: container secrets runs before the trainer"


def test_a_job_that_is_being_deleted_says_what_holds_it() -> None:
    leaving = child(deleting=True)
    assert words(settled(job(), leaving)) == "waiting until Job medqa-train is gone"
    held = leaving.model_copy(
        update={"metadata": leaving.metadata.model_copy(update={"finalizers": ["a.example/b", "orphan"]})}
    )
    assert words(settled(job(), held)) == "waiting until Job medqa-train is gone, held by a.example/b and orphan"
    lost = settled(job(), leaving, pod(deletionTimestamp=ago(31)))
    assert verdict(lost) == ("Unknown", "NodeLost")
    assert words(lost).startswith("pod p1 on node node-1 should have ended at 11:59:29 UTC")


def test_a_job_without_pods_is_asked_about_once_its_pod_is_due() -> None:
    early = decide(job(), child(age=2))
    assert isinstance(early, Settle)
    assert early.revisit == 3
    assert decide(job(), child(age=5)) == LookUp(Need.WARNINGS, "job-1")
    facts = replace(READY, warnings=(Said("BackoffLimitExceeded", "other"), Said("FailedCreate", "exceeded quota")))
    rejected = settled(job(), child(age=5), facts=facts)
    assert (verdict(rejected), words(rejected)) == (("Unknown", "PodRejected"), "exceeded quota")
    quiet = settled(job(), child(age=5), facts=replace(READY, warnings=()))
    assert verdict(quiet) == ("Unknown", "Pending")


def test_a_replacement_that_does_not_come_is_asked_about_with_events_since_the_last_end_only() -> None:
    gone = ended("p1", 1)
    early = decide(job(), child(), gone, now=NOW + timedelta(seconds=2))
    assert isinstance(early, Settle)
    assert early.revisit == 3
    status, later = early.status, NOW + timedelta(seconds=5)
    for children in ((child(), gone), (child(),)):  # a preempted pod is deleted as well
        assert decide(job(status), *children, now=later) == LookUp(Need.WARNINGS, "job-1", NOW)
    facts = replace(READY, warnings=(Said("FailedCreate", "exceeded quota"),))
    rejected = settled(job(status), child(), gone, facts=facts, now=later)
    assert (verdict(rejected), words(rejected)) == (("Unknown", "PodRejected"), "exceeded quota")
    for seconds, revisit in ((5, 5), (20, 20), (600, 30)):
        late = NOW + timedelta(seconds=seconds)
        quiet = decide(job(status), child(), gone, facts=replace(READY, warnings=()), now=late)
        assert isinstance(quiet, Settle)
        assert (verdict(quiet.status), quiet.revisit) == (("Unknown", "Pending"), revisit)
        assert words(quiet.status).startswith("attempt 1 ended (TrainerCrashed); Job medqa-train starts again, from")


def test_a_new_job_s_first_pod_is_asked_about_though_an_earlier_job_s_pod_is_still_there() -> None:
    first = settled(job(), child(), ended("p1", 1))
    again = child(uid="job-2", age=5)
    recorded = settled(job(first), again, ended("p1", 1), facts=replace(READY, warnings=()))
    assert decide(job(recorded), again, ended("p1", 1)) == LookUp(Need.WARNINGS, "job-2")


def test_claims_are_not_looked_for_again_at_every_word_of_the_scheduler() -> None:
    first = settled(job(), child(), pod(phase="Pending", conditions=[UNSCHEDULABLE]), facts=CLAIMED)
    other = {**UNSCHEDULABLE, "message": "0/4 nodes"}
    assert isinstance(decide(job(first), child(), pod(phase="Pending", conditions=[other])), Settle)
    claim = {**UNSCHEDULABLE, "message": 'persistentvolumeclaim "models" not found'}
    assert decide(job(first), child(), pod(phase="Pending", conditions=[claim])) == LookUp(Need.CLAIMS)


def test_new_words_of_the_scheduler_replace_the_old_ones() -> None:
    first = settled(job(), child(), pod(phase="Pending", conditions=[UNSCHEDULABLE]), facts=CLAIMED)
    other = {**UNSCHEDULABLE, "message": "0/4 nodes"}
    assert words(settled(job(first), child(), pod(phase="Pending", conditions=[other]), facts=CLAIMED)) == "0/4 nodes"


def test_the_kubelet_s_back_off_does_not_rewrite_the_pull_error() -> None:
    def pulling(reason: str, message: str) -> Pod:
        return pod(phase="Pending", state={"waiting": {"reason": reason, "message": message}})

    first = settled(job(), child(), pulling("ErrImagePull", "manifest unknown"))
    assert settled(job(first), child(), pulling("ImagePullBackOff", "Back-off pulling image")) == first
