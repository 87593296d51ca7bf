"""The operator as a process against a real API server: one job from apply to verdict, and everything in between."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from typing import Any

import pytest

from finetune_api.names import JOB_UID_LABEL
from finetune_api.reasons import Reason, exit_code
from operator_jobs import ADAPTER, EVALUATION, config, job, message, trained


@pytest.mark.usefixtures("operator")
def test_a_job_trains_then_evaluates_and_its_status_tells_the_whole_story(world: Any) -> None:
    world.apply(job("medqa", world.namespace))
    train = world.run_pod("medqa-train")
    running = world.until_status("medqa", lambda status: status.stage == "Training", "stage Training")
    assert (running.attempts[0].pod, running.attempts[0].node) == (train, "node-1")
    assert world.get("jobs", "medqa-eval") is None
    owner = world.get("jobs", "medqa-train")["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"]) == (world.uid("finetunejobs", "medqa"), True)

    world.end_pod(train, 0, trained(world, "medqa"))
    evaluation = world.run_pod("medqa-eval")
    halfway = world.until_status("medqa", lambda status: status.stage == "Evaluating", "stage Evaluating")
    assert halfway.holds("Trained")
    assert halfway.training.final_loss == "0.312"
    assert halfway.progress.summary == "200/200"

    world.end_pod(evaluation, 0, message(world, "medqa", "Evaluate", evaluation=EVALUATION))
    status = world.until_status("medqa", lambda status: status.holds("Succeeded"), "success")
    assert status.stage == "Succeeded"
    assert status.condition("Succeeded").message == "accuracy 0.412 → 0.447 (+3.5 points, p=0.012, n=1273)"
    assert status.condition("Reconciling").status == "False"
    assert status.condition("Stalled") is None
    assert status.adapter.uri == ADAPTER["uri"]
    assert status.holds("Finished")
    for stage in ("Train", "Evaluate"):
        kept = status.stage_status(stage)
        assert kept.lineage.image == "registry.example/trainer@sha256:" + "a" * 64
        assert kept.lineage.profile_sha256
        assert kept.start_time <= kept.completion_time
    assert '""' not in json.dumps(world.get("finetunejobs", "medqa")["status"])
    assert [(one.stage, one.number, one.reason) for one in status.attempts] == [
        ("Train", 1, "Completed"),
        ("Evaluate", 1, "Completed"),
    ]
    columns = world.plane.kubectl("get", "ftj", "medqa", "-n", world.namespace)
    assert "0.41→0.45" in columns
    world.until(lambda: _events_about(world, "medqa") == {"Succeeded"}, "the one Event")


def _events_about(world: Any, name: str) -> set[str]:
    return {one["reason"] for one in world.objects("events") if one["involvedObject"]["name"] == name}


def test_an_operator_killed_at_every_stage_loses_nothing_and_starts_nothing_twice(world: Any, operator: Any) -> None:
    world.apply(job("medqa", world.namespace))
    train = world.run_pod("medqa-train")
    operator.kill()
    uid = world.uid("jobs", "medqa-train")
    world.end_pod(train, 0, trained(world, "medqa"))
    world.until(lambda: world.get("jobs", "medqa-train")["status"].get("succeeded"), "the Job's end")

    operator.start()
    evaluation = world.run_pod("medqa-eval")
    assert world.status("medqa").holds("Trained")
    operator.kill()
    world.end_pod(evaluation, 0, message(world, "medqa", "Evaluate", evaluation=EVALUATION))

    operator.start()
    status = world.until_status("medqa", lambda status: status.holds("Succeeded"), "success")
    assert [(one.stage, one.number) for one in status.attempts] == [("Train", 1), ("Evaluate", 1)]
    assert world.uid("jobs", "medqa-train") == uid
    assert len(world.objects("pods")) == 2


def test_a_finished_job_whose_children_are_deleted_never_runs_again(world: Any, operator: Any) -> None:
    world.apply(job("once", world.namespace, evaluated=False))
    world.end_pod(world.run_pod("once-train"), 0, trained(world, "once"))
    status = world.until_status("once", lambda status: status.holds("Succeeded"), "success")
    assert status.condition("Succeeded").message == "adapter at pvc://models/run/adapter"
    world.plane.kubectl("delete", "job,pod", "--all", "-n", world.namespace)
    operator.kill()
    operator.start()
    # A second job shows that the restarted operator has been through its list.
    world.apply(job("other", world.namespace))
    world.until(lambda: world.get("jobs", "other-train"), "the other job's start")
    assert world.get("jobs", "once-train") is None
    assert world.status("once") == status


@pytest.mark.usefixtures("operator")
def test_a_user_s_mistake_fails_the_job_at_once_with_the_trainer_s_words(world: Any) -> None:
    world.apply(job("bad-row", world.namespace))
    pod = world.run_pod("bad-row-train")
    words = {"reason": "DatasetInvalid", "message": "row 17 has no column answer; mend the row", "log": "last lines"}
    world.end_pod(pod, exit_code(Reason.DATASET_INVALID), message(world, "bad-row", "Train", failure=words))
    status = world.until_status("bad-row", lambda status: status.stage == "Failed", "failure")
    assert (status.failure.reason, status.failure.message) == ("DatasetInvalid", words["message"])
    assert (status.failure.exit_code, status.failure.log) == (67, "last lines")
    assert status.stage_status("Train").crashes == 0
    assert status.holds("Stalled")
    assert status.condition("Succeeded").reason == "DatasetInvalid"
    assert len(world.objects("pods")) == 1


@pytest.mark.usefixtures("operator")
def test_a_disruption_is_free_and_the_crash_beyond_the_back_off_limit_fails_the_job(world: Any) -> None:
    world.apply(job("crash", world.namespace))
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    world.end_pod(world.run_pod("crash-train"), 137, conditions=[disruption])
    world.end_pod(world.run_pod("crash-train"), 1, "Traceback: boom")
    status = world.until_status("crash", lambda status: status.stage == "Failed", "failure")
    assert [one.reason for one in status.attempts] == ["Preempted", "TrainerCrashed"]
    assert status.stage_status("Train").crashes == 1
    assert status.failure.reason == "TrainerCrashed"
    assert "backoffLimit 0" in status.failure.message
    assert status.failure.log == "Traceback: boom"


@pytest.mark.usefixtures("operator")
def test_a_pod_killed_for_memory_fails_the_job_and_names_the_limit(world: Any) -> None:
    world.apply(job("oom", world.namespace, resources={"requests": {}, "limits": {"memory": "6Gi"}}))
    world.end_pod(world.run_pod("oom-train"), 137, reason="OOMKilled")
    status = world.until_status("oom", lambda status: status.stage == "Failed", "failure")
    assert status.failure.reason == "OutOfMemory"
    assert "memory limit of 6Gi; raise spec.runtime.resources.limits.memory" in status.failure.message


@pytest.mark.usefixtures("operator")
def test_nothing_of_a_deleted_namesake_lands_on_the_new_object(world: Any) -> None:
    world.apply(job("again", world.namespace))
    old_pod = world.run_pod("again-train")
    old_message = trained(world, "again")
    old = world.uid("finetunejobs", "again")
    world.delete("finetunejobs", "again")
    world.apply(job("again", world.namespace))
    world.until(lambda: world.uid("finetunejobs", "again") not in ("", old), "the new object")
    # The old pod ends with a whole result of the same spec before anything of the new object runs.
    world.end_pod(old_pod, 0, old_message)
    new_pod = world.run_pod("again-train")
    assert new_pod != old_pod
    assert world.get("pods", new_pod)["metadata"]["labels"][JOB_UID_LABEL] == world.uid("finetunejobs", "again")
    assert config(world, "again")["job"]["uid"] == world.uid("finetunejobs", "again")
    status = world.until_status("again", lambda status: status.stage == "Training", "stage Training")
    assert not status.holds("Trained")
    assert [one.pod for one in status.attempts] == [new_pod]
    # Not even when a pod of the new object reports the old one's result.
    world.end_pod(new_pod, 0, old_message)
    lost = world.until_status("again", lambda status: status.attempts[0].reason, "its end")
    assert lost.attempts[0].reason == "ResultLost"
    assert lost.training is None


@pytest.mark.usefixtures("operator")
def test_deleting_a_running_job_removes_its_children_and_two_jobs_do_not_mix(world: Any) -> None:
    world.apply(job("one", world.namespace), job("two", world.namespace))
    one, two = world.run_pod("one-train"), world.run_pod("two-train")
    world.until_status("two", lambda status: status.stage == "Training", "stage Training")
    world.delete("finetunejobs", "one")
    world.until(lambda: not world.get("jobs", "one-train"), "collection")
    assert world.get("pods", two)["status"]["phase"] == "Running"
    assert world.status("two").attempts[0].pod == two != one


def test_a_status_conflict_is_met_with_a_fresh_look_and_nothing_is_lost(world: Any, operator: Any) -> None:
    world.apply(job("busy", world.namespace))
    pod = world.run_pod("busy-train")
    world.until_status("busy", lambda status: status.stage == "Training", "stage Training")
    stop = threading.Event()
    url = world.path("finetunejobs", "busy/status")

    def push() -> None:
        """Writes progress as fast as it can, as no gateway would."""
        for step in itertools.count():
            if stop.is_set():
                return
            patch = [{"op": "add", "path": "/status/progress", "value": {"stage": "Train", "pod": pod, "step": step}}]
            world.request("PATCH", url, patch, "application/json-patch+json")

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        world.end_pod(pod, 0, trained(world, "busy"))
        world.until_status("busy", lambda status: status.holds("Trained"), "Trained")
        world.until(lambda: world.get("jobs", "busy-eval"), "the evaluation's Job")
        world.run_pod("busy-eval")
        status = world.until_status("busy", lambda status: len(status.attempts) == 2, "the evaluation's attempt")
    finally:
        stop.set()
        pusher.join()
    assert [one.stage for one in status.attempts] == ["Train", "Evaluate"]
    assert status.training.steps == 200


def test_sigterm_ends_the_operator_at_once_and_without_an_error(world: Any, operator: Any) -> None:
    world.apply(job("bye", world.namespace))
    world.until(lambda: world.get("jobs", "bye-train"), "the Job")
    world.until(operator.is_alive, "an operator that has started whole")
    process = operator.process
    operator.kill(signal.SIGTERM)
    assert process.returncode == 0
    assert "ERROR" not in operator.log.read_text()
