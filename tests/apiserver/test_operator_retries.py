"""The operator beside the real Job controller: what is tried again, what is not, and what holds a start up."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.names import JOB_LABEL
from finetune_api.reasons import Reason, exit_code
from operator_jobs import job, message, trained

QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}}


def patient(name: str, namespace: str, backoff_limit: int = 3) -> dict[str, Any]:
    """A job that outlives crashes."""
    made = job(name, namespace, evaluated=False)
    made["spec"]["scheduling"]["backoffLimit"] = backoff_limit
    return made


def reason(status: Any) -> str:
    """The reason of Succeeded."""
    found = status.condition("Succeeded")
    return found.reason if found else ""


@pytest.mark.usefixtures("operator")
def test_a_pod_evicted_for_its_scratch_space_ends_the_job_though_its_policy_would_replace_it_for_ever(
    world: Any,
) -> None:
    world.apply(patient("hungry", world.namespace))
    pod = world.run_pod("hungry-train")
    told = message(world, "hungry", "Train", failure={"reason": "Interrupted", "message": "told to stop"})
    evicted = {"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds 50Gi. "}
    # patch_pod writes what end_pod can't: the pod's own reason and message.
    state = {"terminated": {"exitCode": exit_code(Reason.INTERRUPTED), "reason": "Error", "message": told}}
    world.patch_pod(pod, {"phase": "Failed", **evicted}, state)
    status = world.until_status("hungry", lambda status: status.stage == "Failed", "failure")
    assert status.failure.reason == "StorageFull"
    world.until(lambda: world.get("jobs", "hungry-train") is None, "the Job's deletion")


@pytest.mark.usefixtures("operator")
def test_a_deleted_pod_that_had_to_be_killed_is_one_crash_and_a_new_job_goes_on(world: Any) -> None:
    world.apply(patient("killed", world.namespace))
    pod = world.run_pod("killed-train")
    first = world.uid("jobs", "killed-train")
    world.request("DELETE", world.path("pods", pod), {"gracePeriodSeconds": 60})
    world.end_pod(pod, 137)
    world.until(lambda: world.uid("jobs", "killed-train") not in ("", first), "a new Job")
    world.end_pod(world.run_pod("killed-train"), 0, trained(world, "killed"))
    status = world.until_status("killed", lambda status: status.holds("Succeeded"), "success")
    assert [(one.number, one.reason) for one in status.attempts] == [(1, "TrainerCrashed"), (2, "Completed")]
    assert status.stage_status("Train").crashes == 1


@pytest.mark.usefixtures("operator")
def test_a_replacement_that_a_quota_refuses_is_explained_and_starts_once_there_is_room(world: Any) -> None:
    world.apply(patient("squeezed", world.namespace))
    pod = world.run_pod("squeezed-train")
    world.apply({**QUOTA, "metadata": {"name": "none", "namespace": world.namespace}})
    world.until(lambda: world.get("resourcequotas", "none").get("status", {}).get("hard"), "the quota")
    world.end_pod(pod, exit_code(Reason.INTERRUPTED))
    status = world.until_status("squeezed", lambda status: reason(status) == "PodRejected", "PodRejected")
    assert "exceeded quota: none" in status.condition("Succeeded").message
    world.delete("resourcequotas", "none")
    world.run_pod("squeezed-train")
    world.until_status("squeezed", lambda status: status.stage == "Training", "stage Training")


@pytest.mark.usefixtures("operator")
def test_of_two_jobs_of_one_spec_the_second_starts_when_the_first_has_ended(world: Any) -> None:
    first, second = patient("first", world.namespace), patient("second", world.namespace)
    second["spec"]["output"] = first["spec"]["output"]
    world.apply(first)
    pod = world.run_pod("first-train")
    world.apply(second)
    told = world.until_status("second", lambda status: status.condition("Succeeded"), "the wait")
    assert "FineTuneJob first" in told.condition("Succeeded").message
    assert "to the same folder; this job starts when it has ended" in told.condition("Succeeded").message
    assert world.get("jobs", "second-train") is None
    world.end_pod(pod, 0, trained(world, "first"))
    world.run_pod("second-train")
    assert world.status("first").holds("Succeeded")


@pytest.mark.usefixtures("operator")
def test_a_pod_that_only_carries_the_job_s_name_does_not_hold_it_up(world: Any) -> None:
    meta = {"name": "notebook", "namespace": world.namespace, "labels": {JOB_LABEL: "free"}}
    world.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    world.apply(job("free", world.namespace))
    world.until(lambda: world.get("jobs", "free-train"), "the Job")
