"""What the operator's plan says of a stage that waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_operator.finetunejob.steps import DeleteJob, LookUp, Need, Settle
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
)

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
        pod(deletionTimestamp=ago(31)),
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


def test_a_replacement_that_does_not_come_is_asked_about_with_events_since_the_last_end_only() -> None:
    gone = ended("p1", 1)
    early = decide(job(), child(), gone, now=NOW + timedelta(seconds=2))
    assert isinstance(early, Settle)
    assert early.revisit == 3
    status, later = early.status, NOW + timedelta(seconds=5)
    for children in ((child(), gone), (child(),)):  # a preempted pod is deleted as well
        assert decide(job(status), *children, now=later) == LookUp(Need.REJECTION, NOW)
    rejected = settled(job(status), child(), gone, facts=replace(READY, rejection="exceeded quota"), now=later)
    assert (verdict(rejected), rejected.conditions[0].message) == (("Unknown", "PodRejected"), "exceeded quota")
    for seconds, revisit in ((5, 5), (20, 20), (600, 30)):
        late = NOW + timedelta(seconds=seconds)
        quiet = decide(job(status), child(), gone, facts=replace(READY, rejection=""), now=late)
        assert isinstance(quiet, Settle)
        assert (verdict(quiet.status), quiet.revisit) == (("Unknown", "Pending"), revisit)


def test_a_new_job_s_first_pod_is_asked_about_though_an_earlier_job_s_pod_is_still_there() -> None:
    first = settled(job(), child(), ended("p1", 1))
    again = child(uid="job-2", age=5)
    recorded = settled(job(first), again, ended("p1", 1), facts=replace(READY, rejection=""))
    assert decide(job(recorded), again, ended("p1", 1)) == LookUp(Need.REJECTION)


def test_the_kubelet_s_back_off_does_not_rewrite_the_pull_error() -> None:
    def pulling(reason: str, message: str) -> Pod:
        return pod(phase="Pending", state={"waiting": {"reason": reason, "message": message}})

    first = settled(job(), child(), pulling("ErrImagePull", "manifest unknown"))
    assert settled(job(first), child(), pulling("ImagePullBackOff", "Back-off pulling image")) == first
