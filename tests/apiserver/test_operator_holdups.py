"""What holds a job up, against a real API server: each cause is in status in the words of whoever knows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.base import format_time
from operator_jobs import job, reason, words


@pytest.mark.usefixtures("operator")
def test_a_name_held_by_somebody_else_is_a_conflict_and_stays_untouched(world: Any) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "mine", "image": "registry.example/mine"}]}}
    foreign = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "taken-train", "namespace": world.namespace},
        "spec": {"suspend": True, "template": template},
    }
    world.apply(foreign, job("taken", world.namespace))
    status = world.until_status("taken", lambda status: status.stage == "Failed", "failure")
    assert status.failure.reason == "NameConflict"
    assert "Job taken-train exists already" in status.failure.message
    assert world.get("jobs", "taken-train")["spec"]["template"]["spec"]["containers"][0]["name"] == "mine"


@pytest.mark.usefixtures("operator")
def test_a_missing_profile_is_named_and_helps_as_soon_as_it_is_there(world: Any, system: str) -> None:
    world.apply(job("later", world.namespace, profile="later"))
    status = world.until_status("later", lambda status: status.conditions, "conditions")
    assert status.condition("Succeeded").reason == "ProfileNotFound"
    assert "finetune-profile-later" in status.condition("Succeeded").message
    profile = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "finetune-profile-later", "namespace": system},
        "data": {"profile.yaml": "image: registry.example/other:2"},
    }
    world.apply(profile)
    world.until(lambda: world.get("jobs", "later-train"), "the Job")
    template = world.get("jobs", "later-train")["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "registry.example/other:2"


@pytest.mark.usefixtures("operator")
def test_a_rejected_pod_shows_the_admission_s_own_words(world: Any) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    world.apply(quota)
    world.until(lambda: world.get("resourcequotas", "none").get("status", {}).get("hard"), "the quota")
    world.apply(job("quota", world.namespace))
    status = world.until_status(
        "quota",
        lambda status: status.conditions and status.condition("Succeeded").reason == "PodRejected",
        "PodRejected",
    )
    assert "exceeded quota: none" in status.condition("Succeeded").message
    assert status.condition("Reconciling").status == "True"


@pytest.fixture
def failing_webhook(world: Any) -> Iterator[str]:
    """A validating webhook on this namespace's Jobs whose service has no endpoints."""
    meta = {"name": "no-endpoints", "namespace": world.namespace}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 443}]}}
    name = f"failing-{world.namespace}"
    webhook = {
        "name": "jobs.failing.example",
        "clientConfig": {"service": {**meta, "path": "/"}},
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind = "ValidatingWebhookConfiguration"
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
    world.apply(service, {**api, "webhooks": [webhook]})
    yield name
    world.plane.kubectl("delete", kind, name, "--ignore-not-found")


@pytest.mark.usefixtures("operator")
def test_what_fails_at_the_api_server_is_in_status_in_its_words_and_the_job_starts_once_it_is_mended(
    world: Any, failing_webhook: str
) -> None:
    world.until(lambda: _refuses_jobs(world), "the webhook's effect")
    world.apply(job("hooked", world.namespace))
    status = world.until_status("hooked", lambda status: reason(status) == "ApiError", "ApiError")
    assert "Job hooked-train can't be created: Internal error occurred: failed calling webhook" in words(status)
    assert (status.stage, status.condition("Reconciling").status) == ("Pending", "True")
    world.plane.kubectl("delete", "ValidatingWebhookConfiguration", failing_webhook)
    world.run_pod("hooked-train")
    world.until_status("hooked", lambda status: status.stage == "Training", "stage Training")


def _refuses_jobs(world: Any) -> bool:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/c"}]}}
    meta = {"name": "probe", "namespace": world.namespace}
    probe = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}}
    try:
        world.request("POST", world.path("jobs") + "?dryRun=All", probe)
    except AssertionError as error:
        return "failed calling webhook" in str(error)
    return False


@pytest.mark.usefixtures("operator")
def test_a_suspended_child_says_so_before_and_during_the_run_and_goes_on_when_it_is_resumed(world: Any) -> None:
    world.apply(job("held", world.namespace))
    world.until(lambda: world.get("jobs", "held-train"), "the Job")

    def suspend(value: bool) -> None:
        patch = {"spec": {"suspend": value}}
        world.request("PATCH", world.path("jobs", "held-train"), patch, "application/merge-patch+json")

    suspend(True)
    status = world.until_status("held", lambda status: reason(status) == "Suspended", "Suspended")
    assert words(status).startswith("Job held-train is suspended; whoever suspended the Job resumes it")
    suspend(False)
    pod = world.run_pod("held-train")
    world.until_status("held", lambda status: status.stage == "Training", "stage Training")
    progress = {"stage": "Train", "pod": pod, "step": 7, "remainingSeconds": 90, "remaining": "1m 30s"}
    patch = [{"op": "add", "path": "/status/progress", "value": progress}]
    world.request("PATCH", world.path("finetunejobs", "held/status"), patch, "application/json-patch+json")
    suspend(True)
    world.until_status("held", lambda status: reason(status) == "Suspended", "Suspended during the run")
    status = world.until_status(
        "held", lambda status: not status.progress or status.progress.remaining is None, "no promise"
    )
    assert status.stage == "Pending"
    world.request("DELETE", world.path("pods", pod), {"gracePeriodSeconds": 0})
    suspend(False)
    again = world.run_pod("held-train")
    status = world.until_status("held", lambda status: status.stage == "Training", "stage Training again")
    assert [(one.pod, one.reason) for one in status.attempts] == [(pod, "Interrupted"), (again, None)]
    assert status.stage_status("Train").crashes == 0


@pytest.mark.usefixtures("operator")
def test_a_profile_for_other_namespaces_is_refused_until_it_allows_this_one(world: Any, system: str) -> None:
    def profile(*allowed: str) -> dict[str, Any]:
        data = {"image": "registry.example/trainer:1", "allowedNamespaces": list(allowed), "trustRemoteCode": True}
        meta = {"name": f"finetune-profile-{world.namespace}", "namespace": system}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"profile.yaml": json.dumps(data)}}

    world.apply(profile("prod"))
    world.apply(job("guest", world.namespace, profile=world.namespace))
    status = world.until_status("guest", lambda status: reason(status) == "ProfileForbidden", "ProfileForbidden")
    assert f"is not for jobs of namespace '{world.namespace}'" in words(status)
    assert world.get("jobs", "guest-train") is None
    world.apply(profile("*"))
    status = world.until_status("guest", lambda status: reason(status) == "ProfileNotFound", "an unusable profile")
    assert "trustRemoteCode: true needs allowedNamespaces that name each namespace" in words(status)
    world.apply(profile("prod", world.namespace))
    world.until(lambda: world.get("jobs", "guest-train"), "the Job")


@pytest.mark.usefixtures("operator")
def test_a_pod_that_its_kubelet_refuses_costs_no_crash_though_its_job_counts_one(world: Any) -> None:
    world.apply(job("refused", world.namespace))  # backoffLimit 0: one failed pod ends the Job
    world.until(lambda: world.objects("pods", "job-name=refused-train"), "a pod")
    pod, first = world.run_pod("refused-train"), world.uid("jobs", "refused-train")
    status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed", "conditions": []}
    body = {"status": {**status, "containerStatuses": None}}
    world.request("PATCH", world.path("pods", f"{pod}/status"), body, "application/merge-patch+json")
    world.until(lambda: world.uid("jobs", "refused-train") not in ("", first), "a new Job")
    again = world.run_pod("refused-train")
    status = world.until_status("refused", lambda status: len(status.attempts) == 2, "a second attempt")
    assert [(one.pod, one.reason) for one in status.attempts] == [(pod, "NodeRefused"), (again, None)]
    assert status.stage_status("Train").crashes == 0


@pytest.mark.usefixtures("operator")
def test_a_claim_that_is_not_there_is_named_at_once_and_the_job_starts_when_it_comes(world: Any) -> None:
    world.apply(job("claimless", world.namespace))
    world.until(lambda: world.objects("pods"), "a pod")
    pod = world.objects("pods")[0]["metadata"]["name"]
    said = '0/1 nodes are available: persistentvolumeclaim "data" not found.'
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    world.patch_pod(pod, {"conditions": [condition]})
    status = world.until_status("claimless", lambda status: reason(status) == "VolumeNotFound", "VolumeNotFound")
    names = f"{world.namespace}/models, {world.namespace}/data"
    assert words(status).startswith(f"there is no PersistentVolumeClaim {names}; create the PersistentVolumeClaim")
    assert (status.stage, status.condition("Stalled")) == ("Pending", None)
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for name in ("data", "models"):
        meta = {"name": name, "namespace": world.namespace}
        world.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    world.patch_pod(pod, {"conditions": [{**condition, "message": "0/1 nodes are available: insufficient memory."}]})
    world.until_status("claimless", lambda status: reason(status) == "Unschedulable", "Unschedulable")
    world.patch_pod(pod, {"conditions": [{"type": "PodScheduled", "status": "True"}]})
    world.run_pod("claimless-train")
    world.until_status("claimless", lambda status: status.stage == "Training", "stage Training")


@pytest.mark.usefixtures("operator")
def test_a_volume_that_can_t_be_mounted_is_told_in_the_kubelet_s_words(world: Any) -> None:
    world.apply(job("unmounted", world.namespace))
    pod = world.run_pod("unmounted-train")
    world.patch_pod(pod, {"phase": "Pending"}, {"waiting": {"reason": "ContainerCreating"}})
    involved = {"kind": "Pod", "namespace": world.namespace, "name": pod, "uid": world.uid("pods", pod)}
    now = format_time(datetime.now(UTC))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod}.1", "namespace": world.namespace},
        "involvedObject": involved,
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "claim-0": exit status 32',
        "firstTimestamp": now,
        "lastTimestamp": now,
    }
    world.apply(event)
    status = world.until_status("unmounted", lambda status: reason(status) == "FailedMount", "FailedMount")
    assert 'MountVolume.SetUp failed for volume "claim-0": exit status 32; mend the volume' in words(status)


@pytest.mark.usefixtures("operator")
def test_a_pod_that_outlives_its_deleted_job_keeps_the_folder_until_it_has_ended(world: Any) -> None:
    first, second = job("gone", world.namespace, evaluated=False), job("next", world.namespace, evaluated=False)
    second["spec"]["output"] = first["spec"]["output"]
    world.apply(first)
    pod = world.run_pod("gone-train")
    world.until_status("gone", lambda status: status.stage == "Training", "stage Training")
    world.delete("finetunejobs", "gone")
    world.until(lambda: world.get("jobs", "gone-train") is None, "the Job's collection")
    world.apply(second)
    status = world.until_status("next", lambda status: status.conditions, "conditions")
    assert words(status).startswith(f"pod {pod} on node node-1 of an earlier run, of FineTuneJob gone, may still write")
    assert world.get("jobs", "next-train") is None
    world.end_pod(pod, 143)
    world.run_pod("next-train")
