"""Whose turn it is at one run's folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.finetunejob.output_folder import occupant
from finetune_operator.workload.objects import Pod
from plan_questions import NOW, OLD_UID, SPEC, ago, child, ended, pod

DONE = {"conditions": [{"type": "Succeeded", "status": "True", "reason": "Completed", "lastTransitionTime": ago(0)}]}
STARTED = {"attempts": [{"stage": "Train", "number": 1, "jobUID": "job-1"}]}


def held_up(reason: str) -> dict[str, Any]:
    """The status of a job that waits for a reason."""
    return {"conditions": [{"type": "Succeeded", "status": "Unknown", "reason": reason, "lastTransitionTime": ago(0)}]}


def named(name: str, age: float, *, status: dict[str, Any] | None = None, **spec: Any) -> JobObject:
    """A FineTuneJob; its UID is its name."""
    metadata = {"name": name, "namespace": "ml", "uid": name, "creationTimestamp": ago(age)}
    return read_job({"metadata": metadata, "spec": SPEC | spec, "status": status or {}})


def waits_for(mine: JobObject, *others: JobObject, started: bool = False, pods: tuple[Pod, ...] = ()) -> str:
    """What ``mine`` waits for, of jobs of its folder."""
    return occupant(mine, started, [(other, False) for other in others], pods)


TURN = "FineTuneJob {} writes to the same folder; this job starts when it has ended"


def test_of_two_jobs_with_one_folder_the_younger_waits_and_the_older_does_not() -> None:
    old, young = named("old", 60), named("young", 30)
    assert (waits_for(young, old), waits_for(old, young)) == (TURN.format("old"), "")


def test_of_two_jobs_of_one_second_exactly_one_waits() -> None:
    a, b = named("a", 60), named("b", 60)
    assert (waits_for(a, b), waits_for(b, a)) == ("", TURN.format("a"))


def test_a_job_that_has_started_comes_first_whoever_is_older() -> None:
    a, b = named("a", 60), named("b", 60)
    assert occupant(a, False, [(b, True)], ()) == TURN.format("b")
    assert waits_for(a, named("b", 60, status=STARTED)) == TURN.format("b")
    assert waits_for(b, a, started=True) == ""
    assert waits_for(named("b", 60, status=STARTED), a) == ""


@pytest.mark.parametrize("reason", ["ProfileNotFound", "ProfileForbidden", "PodRejected", "UnsupportedSpec"])
def test_a_job_that_something_else_holds_up_lets_others_pass_until_it_has_started(reason: str) -> None:
    young = named("young", 30)
    assert waits_for(young, named("old", 60, status=held_up(reason))) == ""
    assert waits_for(young, named("old", 60, status=held_up(reason) | STARTED)) == TURN.format("old")
    assert waits_for(young, named("old", 60, status=held_up("Pending"))) == TURN.format("old")


def test_a_job_that_is_being_deleted_holds_its_folder_only_if_it_has_started() -> None:
    young = named("young", 30)
    for status, said in (({}, ""), (held_up("Pending"), ""), (STARTED, TURN.format("old"))):
        leaving = named("old", 60, status=status)
        metadata = leaving.metadata.model_copy(update={"deletion_timestamp": NOW})
        assert waits_for(young, replace(leaving, metadata=metadata)) == said


def test_an_ended_job_is_not_waited_for() -> None:
    assert waits_for(named("young", 30), named("old", 60, status=DONE)) == ""


def test_a_live_pod_holds_the_folder_whoever_owned_it_and_whatever_became_of_its_job() -> None:
    mine, left = named("mine", 30), pod("left", of="gone", uid=OLD_UID)
    words = (
        "pod left on node node-1 of an earlier run, of FineTuneJob medqa, may still write to the same folder; "
        "this job starts when it has ended"
    )
    assert waits_for(mine, pods=(left,)) == words
    assert waits_for(mine, started=True, pods=(left,)) == words  # a second stage is no exception
    # Of a job that is there and goes first, its name says more.
    assert waits_for(mine, named("old", 60, status=STARTED), pods=(left,)) == TURN.format("old")
    beside = ended("left", 0, of="gone", uid=OLD_UID, sidecar={"running": {}})
    for over in (ended("left", 1, of="gone", uid=OLD_UID), beside):  # its trainer writes nothing more
        assert waits_for(mine, pods=(over,)) == ""


def test_a_job_that_outlives_its_finetunejob_holds_the_folder_for_it_may_start_pods() -> None:
    young = named("young", 30)
    left = child()
    said = "Job medqa-train of FineTuneJob medqa may still start pods that write to the same folder; this job starts"
    assert occupant(young, False, [], [], [left]).startswith(said)
    assert occupant(named("medqa", 30), False, [], [], [left]) == ""  # told of when the name turns out to be taken


def test_a_pod_that_is_no_stage_s_holds_nothing_up() -> None:
    def stranger(labels: set[str], controller: dict[str, str]) -> Pod:
        found = pod("debug", of="gone", uid=OLD_UID)
        kept = {name: value for name, value in found.metadata.labels.items() if name in labels}
        owner = found.metadata.owner_references[0].model_copy(update=controller)
        return found.model_copy(
            update={"metadata": found.metadata.model_copy(update={"labels": kept, "owner_references": [owner]})}
        )

    everything = {"finetune.dev/job", "finetune.dev/stage", "finetune.dev/job-uid"}
    for found in (
        *(stranger(everything - {label}, {}) for label in ("finetune.dev/stage", "finetune.dev/job-uid")),
        stranger(everything, {"api_version": "apps/v1", "kind": "ReplicaSet"}),
        stranger(everything, {"api_version": "example.org/v1"}),
    ):
        assert waits_for(named("mine", 30), pods=(found,)) == ""
    assert waits_for(named("mine", 30), pods=(stranger(everything, {}),)) != ""


def test_the_folder_is_told_by_destination_and_training_alone() -> None:
    def folder(**spec: Any) -> str:
        read = named("any", 60, **spec).spec
        assert read is not None
        return read.folder

    same = [
        {"scheduling": {"backoffLimit": 1}},
        {"evaluation": None},
        {"output": {"destination": "pvc://models/run/"}},
        {"runtime": {"profile": "other"}},
    ]
    assert {folder(**spec) for spec in same} == {folder()}
    assert folder(training={"seed": 7}) != folder() != folder(output={"destination": "pvc://models/elsewhere"})
