"""The operator as a process against a real API server: one job from apply to verdict, and everything in between."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedded_cluster.control_plane import ControlPlane
from finetune_api.base import format_time
from finetune_api.names import CONFIG_ANNOTATION, JOB_UID_LABEL
from finetune_api.reasons import Reason, exit_code
from operator_jobs import ADAPTER, EVALUATION, config, job, message, trained

GOLDEN = Path(__file__).parents[1] / "data/golden"


def reason(status: Any) -> str:
    """The reason of Succeeded."""
    found = status.condition("Succeeded")
    return found.reason if found else ""


def words(status: Any) -> str:
    """The message of Succeeded."""
    found = status.condition("Succeeded")
    return found.message if found else ""


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


@pytest.mark.usefixtures("operator")
def test_deleting_a_running_job_removes_its_children_and_two_jobs_do_not_mix(world: Any) -> None:
    world.apply(job("one", world.namespace), job("two", world.namespace))
    one, two = world.run_pod("one-train"), world.run_pod("two-train")
    world.until_status("two", lambda status: status.stage == "Training", "stage Training")
    world.delete("finetunejobs", "one")
    world.until(lambda: not world.get("jobs", "one-train"), "collection")
    assert world.get("pods", two)["status"]["phase"] == "Running"
    assert world.status("two").attempts[0].pod == two != one


def test_the_children_of_a_job_stand_under_the_restricted_pod_security_standard(
    apiserver: ControlPlane, world: Any, operator: Any
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    apiserver.kubectl("label", "namespace", world.namespace, label)
    world.apply(job("secure", world.namespace))
    assert world.run_pod("secure-train")


def test_golden_children_are_accepted_by_the_api_server(world: Any) -> None:
    for path in sorted(GOLDEN.glob("*.yaml")):
        text = re.sub(r"^  namespace: .*$", f"  namespace: {world.namespace}", path.read_text(), flags=re.MULTILINE)
        world.plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


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


def _containers(world: Any, pod: str, phase: str, *, agent: dict[str, Any], trainer: dict[str, Any]) -> None:
    """Writes the status of a pod into which somebody injected a container, which sorts first."""

    def container(name: str, state: dict[str, Any]) -> dict[str, Any]:
        image = f"registry.example/{name}@sha256:" + "a" * 64
        head = {"name": name, "image": name, "imageID": image, "ready": False, "restartCount": 0}
        return {**head, "state": state}

    status = {
        "phase": phase,
        "containerStatuses": [container("agent", agent), container("trainer", trainer)],
    }
    world.request(
        "PATCH", world.path("pods", f"{pod}/status"), {"status": status}, "application/strategic-merge-patch+json"
    )


@pytest.mark.usefixtures("operator")
def test_a_result_is_read_from_the_trainer_while_an_injected_container_runs_on(world: Any) -> None:
    now = format_time(datetime.now(UTC))
    world.apply(job("meshed", world.namespace, evaluated=False))
    pod = world.run_pod("meshed-train")
    world.until_status("meshed", lambda status: status.stage == "Training", "stage Training")
    over = {"exitCode": 0, "reason": "Completed", "message": trained(world, "meshed"), "finishedAt": now}
    running = {"running": {"startedAt": now}}
    _containers(world, pod, "Running", agent=running, trainer={"terminated": over})
    status = world.until_status("meshed", lambda status: status.holds("Succeeded"), "success")
    assert [one.reason for one in status.attempts] == ["Completed"]
    assert f"container agent of pod {pod} runs on beside it" in status.condition("Trained").message
    killed = {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": now}}
    _containers(world, pod, "Failed", agent=killed, trainer={"terminated": over})
    assert world.status("meshed").stage == "Succeeded"


@pytest.mark.usefixtures("operator")
def test_the_exit_code_of_an_injected_container_is_not_the_trainer_s(world: Any) -> None:
    now = format_time(datetime.now(UTC))
    patient = job("sidecar", world.namespace, evaluated=False)
    patient["spec"]["scheduling"]["backoffLimit"] = 1
    world.apply(patient)
    pod, uid = world.run_pod("sidecar-train"), world.uid("jobs", "sidecar-train")
    mistake = {"terminated": {"exitCode": exit_code(Reason.DATASET_INVALID), "reason": "Error", "finishedAt": now}}
    crash = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now}}
    _containers(world, pod, "Failed", agent=mistake, trainer=crash)
    status = world.until_status("sidecar", lambda status: status.attempts and status.attempts[0].reason, "the ending")
    assert status.attempts[0].reason == "TrainerCrashed"
    assert status.stage == "Pending"
    world.run_pod("sidecar-train")
    assert world.uid("jobs", "sidecar-train") == uid  # its policy was not misled


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


@pytest.fixture
def newer_crd(world: Any) -> Iterator[None]:
    """The CRD of a newer version: another method, a spec that may change, a field more in status."""
    url = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/finetunejobs.finetune.dev"
    before = world.request("GET", url)
    newer = json.loads(json.dumps(before))
    schema = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"]["properties"]["method"] = {"type": "string"}
    schema["spec"].pop("x-kubernetes-validations")
    schema["status"]["properties"]["queue"] = {"type": "string"}

    def put(crd: dict[str, Any]) -> None:
        crd["metadata"]["resourceVersion"] = world.request("GET", url)["metadata"]["resourceVersion"]
        world.request("PUT", url, crd)

    put(newer)
    yield
    put(before)


@pytest.mark.usefixtures("newer_crd")
def test_an_operator_rolled_back_below_a_spec_leaves_what_runs_alone_and_goes_on_when_it_is_rolled_forward(
    world: Any, operator: Any
) -> None:
    world.apply(job("ahead", world.namespace))
    pod = world.run_pod("ahead-train")
    world.until_status("ahead", lambda status: status.stage == "Training", "stage Training")
    uid = world.uid("jobs", "ahead-train")

    def method(name: str) -> None:
        patch = {"spec": {"method": name}}
        world.request("PATCH", world.path("finetunejobs", "ahead"), patch, "application/merge-patch+json")

    operator.kill()
    merge = "application/merge-patch+json"
    world.until(lambda: _method_is_free(world), "the newer schema")
    world.request("PATCH", world.path("finetunejobs", "ahead/status"), {"status": {"queue": "gold"}}, merge)
    method("Full")
    operator.start()
    status = world.until_status("ahead", lambda status: reason(status) == "UnsupportedSpec", "UnsupportedSpec")
    assert (status.condition("Succeeded").status, status.stage) == ("Unknown", "Training")
    assert "spec.method" in words(status)
    assert world.get("finetunejobs", "ahead")["status"]["queue"] == "gold"
    assert (status.attempts[0].pod, status.attempts[0].end_time) == (pod, None)
    assert (world.uid("jobs", "ahead-train"), world.get("pods", pod)["status"]["phase"]) == (uid, "Running")

    # Another spec that it can't read, of a job that never ran, waits too.
    unread = job("unread", world.namespace)
    unread["spec"]["method"] = "Full"
    world.apply(unread)
    world.until_status("unread", lambda status: reason(status) == "UnsupportedSpec", "UnsupportedSpec")

    method("QLoRA")  # as a version that can read it would see it
    world.until_status("ahead", lambda status: reason(status) == "Training", "Training")
    world.end_pod(pod, 0, trained(world, "ahead"))
    status = world.until_status("ahead", lambda status: status.holds("Trained"), "Trained")
    assert world.get("finetunejobs", "ahead")["status"]["queue"] == "gold"


def _method_is_free(world: Any) -> bool:
    probe = job("probe", world.namespace)
    probe["spec"]["method"] = "Full"
    try:
        world.request("POST", world.path("finetunejobs") + "?dryRun=All", probe)
    except AssertionError:
        return False
    return True


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
def test_a_deleted_child_is_made_again_with_the_same_configuration(world: Any) -> None:
    world.apply(job("mended", world.namespace))
    world.run_pod("mended-train")
    world.until_status("mended", lambda status: status.stage == "Training", "stage Training")
    before, uid = config(world, "mended"), world.uid("jobs", "mended-train")
    world.plane.kubectl("delete", "job", "mended-train", "-n", world.namespace, "--wait=false")
    world.plane.kubectl("delete", "pod", "--all", "-n", world.namespace, "--force", "--grace-period=0")
    world.until(lambda: world.uid("jobs", "mended-train") not in ("", uid), "a new Job")
    assert config(world, "mended") == before
    pod = world.run_pod("mended-train")
    status = world.until_status("mended", lambda status: len(status.attempts) == 2, "a second attempt")
    assert status.attempts[1].pod == pod


@pytest.mark.usefixtures("operator")
def test_the_largest_spec_fits_the_annotations_of_a_pod_and_no_one_can_change_them_on_the_job(world: Any) -> None:
    large = job("large", world.namespace)
    large["spec"]["model"]["chatTemplate"] = "é" * 32_768
    large["spec"]["dataset"]["promptTemplate"] = "{question}" + "é" * 8000
    world.apply(large)
    world.until(lambda: world.objects("pods", "job-name=large-train"), "its pod")
    pod = world.objects("pods", "job-name=large-train")[0]
    read = json.loads(pod["metadata"]["annotations"][CONFIG_ANNOTATION])
    assert read["spec"]["model"]["chatTemplate"] == large["spec"]["model"]["chatTemplate"]
    change = {"spec": {"template": {"metadata": {"annotations": {CONFIG_ANNOTATION: "{}"}}}}}
    with pytest.raises(AssertionError, match="field is immutable"):
        world.request("PATCH", world.path("jobs", "large-train"), change, "application/merge-patch+json")


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
