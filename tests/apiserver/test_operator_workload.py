"""Jobs and pods against a real API server: what they are made of, what is injected, and what is read of them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedded_cluster.control_plane import ControlPlane
from finetune_api.base import format_time
from finetune_api.names import CONFIG_ANNOTATION
from finetune_api.reasons import Reason, exit_code
from operator_jobs import config, job, trained

GOLDEN = Path(__file__).parents[1] / "data/golden"


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
