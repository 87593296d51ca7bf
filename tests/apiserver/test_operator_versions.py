"""An operator that meets what another version wrote, against a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from operator_jobs import job, reason, trained, words


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
    method("Distillation")
    operator.start()
    status = world.until_status("ahead", lambda status: reason(status) == "UnsupportedSpec", "UnsupportedSpec")
    assert (status.condition("Succeeded").status, status.stage) == ("Unknown", "Training")
    assert "spec.method" in words(status)
    assert world.get("finetunejobs", "ahead")["status"]["queue"] == "gold"
    assert (status.attempts[0].pod, status.attempts[0].end_time) == (pod, None)
    assert (world.uid("jobs", "ahead-train"), world.get("pods", pod)["status"]["phase"]) == (uid, "Running")

    # Another spec that it can't read, of a job that never ran, waits too.
    unread = job("unread", world.namespace)
    unread["spec"]["method"] = "Distillation"
    world.apply(unread)
    world.until_status("unread", lambda status: reason(status) == "UnsupportedSpec", "UnsupportedSpec")

    method("QLoRA")  # as a version that can read it would see it
    world.until_status("ahead", lambda status: reason(status) == "Training", "Training")
    world.end_pod(pod, 0, trained(world, "ahead"))
    status = world.until_status("ahead", lambda status: status.holds("Trained"), "Trained")
    assert world.get("finetunejobs", "ahead")["status"]["queue"] == "gold"


def _method_is_free(world: Any) -> bool:
    probe = job("probe", world.namespace)
    probe["spec"]["method"] = "Distillation"
    try:
        world.request("POST", world.path("finetunejobs") + "?dryRun=All", probe)
    except AssertionError:
        return False
    return True
