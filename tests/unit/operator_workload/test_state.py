"""What is read of Jobs and pods: the trainer's container whatever stands beside it, and no more than is needed."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.workload.objects import Job, Pod
from finetune_operator.workload.state import WorkloadState, state
from plan_questions import ago, child, ended, pod, refused, trained

AGENT = {"running": {"startedAt": ago(60)}}


def seen(*pods: Pod, job: Job | None = None) -> WorkloadState:
    """The state of a stage whose results are all accepted."""
    return state(job or child(), pods, lambda result: True)


def test_exit_code_message_and_image_are_those_of_the_trainer_whatever_comes_first() -> None:
    found = seen(ended("p1", 3, "boom", sidecar={"terminated": {"exitCode": 0, "message": trained()}})).pods[0]
    assert (found.exit_code, found.message, found.result) == (3, "boom", None)
    assert (found.image, found.succeeded) == ("registry.example/trainer:1", False)


def test_a_pod_has_ended_for_us_when_its_trainer_has_and_names_what_runs_on() -> None:
    found = seen(ended("p1", message=trained(), sidecar=AGENT)).pods[0]
    assert (found.phase, found.ended, found.running, found.succeeded) == ("Running", True, False, True)
    assert found.held_open == "agent"
    assert seen(ended("p1", message=trained())).pods[0].held_open == ""
    assert seen(pod(state={"running": {}}, sidecar=AGENT)).pods[0].held_open == ""


def test_of_several_pods_that_one_tells_the_result_which_has_it() -> None:
    pods = [ended("p1", 1), ended("p2"), ended("p3", message=trained())]
    success = seen(*pods).success
    assert success is not None
    assert success[0].name == "p3"
    assert seen(*pods[:2]).success is None


def test_the_pods_of_the_present_job_are_told_from_those_of_earlier_ones() -> None:
    both = seen(ended("p1", 1, of="job-0"), pod("p2"))
    assert [one.name for one in both.current] == ["p2"]
    assert both.newest is not None
    assert both.newest.name == "p2"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (child(), (False, False, None)),
        (child(suspend=True), (True, False, None)),
        (child(type="Complete"), (False, True, None)),
        (child(type="Failed", reason="BackoffLimitExceeded"), (False, False, "BackoffLimitExceeded")),
    ],
)
def test_a_job_says_whether_it_is_suspended_complete_or_failed(found: Job, said: tuple[Any, ...]) -> None:
    read = seen(job=found).job
    assert read is not None
    assert (read.suspended, read.complete, read.failed.reason if read.failed else None) == said
    assert read.finished == (said[1] or said[2] is not None)


def test_a_pod_that_no_kubelet_admitted_has_ended_with_the_kubelet_s_words() -> None:
    found = seen(refused("p1", "OutOfcpu", "Node didn't have enough resource: cpu")).pods[0]
    assert (found.ended, found.succeeded, found.exit_code) == (True, False, None)
    assert found.note == "OutOfcpu: Node didn't have enough resource: cpu"


def test_two_versions_that_say_the_same_to_us_are_equal_and_the_configuration_is_not_kept() -> None:
    raw = {
        "metadata": {
            "name": "p1",
            "namespace": "ml",
            "resourceVersion": "1",
            "annotations": {"finetune.dev/config": "x" * 9999, "finetune.dev/folder": "pvc://a/b", "other": "1"},
        }
    }
    later = {**raw, "metadata": {**raw["metadata"], "resourceVersion": "2", "managedFields": [{}]}}
    assert Pod.model_validate(raw) == Pod.model_validate(later)
    assert Pod.model_validate(raw).metadata.annotations == {"finetune.dev/folder": "pvc://a/b"}
