"""The runtime against a real API server: verbs, Events, and watches that leave no trace on anybody's object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from finetune_api.names import GROUP, JOB_LABEL, PLURAL, VERSION
from finetune_operator.runtime.client import ApiError, connect
from finetune_operator.runtime.events import LISTED_FOR, Announcement, Recorder, Reference, Warnings
from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import JOBS, PODS, Object, Resource
from finetune_operator.runtime.store import ChildKind, OwnerKind, Store
from finetune_operator.runtime.watches import watch
from operator_jobs import job

FINETUNEJOBS = Resource(GROUP, VERSION, PLURAL)
MERGE = "application/merge-patch+json"
POD = {"containers": [{"name": "c", "image": "i"}]}


@pytest_asyncio.fixture
async def kube(operator_kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    """A connection with the operator's own rights."""
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    client = await connect()
    yield Kube(client)
    await client.close()


def recorder(kube: Kube) -> Recorder:
    """A recorder by the real clock."""
    return Recorder(kube, "finetune-operator", "test", lambda: datetime.now(UTC))


def batch_job(namespace: str, name: str) -> Object:
    """A Job that makes no pod."""
    spec = {"suspend": True, "template": {"spec": {"restartPolicy": "Never", **POD}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def test_a_status_is_written_without_the_rest_of_the_object_and_only_at_the_version_that_was_read(
    world: Any, system: str, kube: Kube
) -> None:
    world.apply(job("medqa", world.namespace))
    found = await kube.get(FINETUNEJOBS, world.namespace, "medqa")
    assert found
    meta = {name: found["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
    update = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": meta,
        "status": {"stage": "Pending"},
    }
    written = await kube.replace_status(FINETUNEJOBS, update)
    assert (written["status"]["stage"], written["spec"]) == ("Pending", found["spec"])
    with pytest.raises(ApiError) as refused:
        await kube.replace_status(FINETUNEJOBS, update)
    assert refused.value.status == 409


async def test_a_delete_says_whether_it_met_the_object_that_was_meant(world: Any, system: str, kube: Kube) -> None:
    made = await kube.create(JOBS, batch_job(world.namespace, "one"))
    assert not await kube.delete(JOBS, world.namespace, "one", "another-uid")
    assert not await kube.delete(JOBS, world.namespace, "none", made["metadata"]["uid"])
    assert await kube.delete(JOBS, world.namespace, "one", made["metadata"]["uid"])
    assert await kube.get(JOBS, world.namespace, "one") is None


async def test_what_is_missing_is_none_and_a_kind_that_is_missing_is_an_error(
    world: Any, system: str, kube: Kube
) -> None:
    assert await kube.get(JOBS, world.namespace, "none") is None
    with pytest.raises(ApiError):
        await kube.get(Resource(GROUP, VERSION, "finetuneschedules"), world.namespace, "none")


async def test_a_repeated_event_is_counted_instead_of_posted_again(world: Any, system: str, kube: Kube) -> None:
    about = Reference(f"{GROUP}/{VERSION}", "FineTuneJob", world.namespace, "told", "11111111-2222")
    for _ in range(3):
        await recorder(kube).record(about, Announcement("Warning", "Unschedulable", "0/1 nodes"))
    assert [(event["reason"], event["count"]) for event in world.objects("events")] == [("Unschedulable", 3)]


async def test_an_event_of_a_namespace_that_is_gone_is_lost_and_nothing_else(
    system: str, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    about = Reference(f"{GROUP}/{VERSION}", "FineTuneJob", "never-there", "told", "11111111-2222")
    await recorder(kube).record(about, Announcement("Normal", "Succeeded", "done"))
    assert "never-there/told: Event Succeeded lost" in caplog.text


async def test_warnings_about_an_object_come_newest_first_and_older_ones_are_left_out(
    world: Any, system: str, kube: Kube
) -> None:
    child = {"kind": "Job", "namespace": world.namespace, "name": "refused", "uid": "job-1"}
    for name, words, moment in (("e1", "quota", "12:00:00"), ("e2", "policy", "12:00:10")):
        meta = {"name": name, "namespace": world.namespace}
        event = {"involvedObject": child, "type": "Warning", "reason": "FailedCreate", "message": words}
        times = {"firstTimestamp": f"2026-01-01T{moment}Z", "lastTimestamp": f"2026-01-01T{moment}Z"}
        world.apply({"apiVersion": "v1", "kind": "Event", "metadata": meta, **event, **times})
    at = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    moments = (None, at, at + timedelta(seconds=10.5), at + timedelta(seconds=11))
    warnings = Warnings(kube, lambda: at)
    told = [await warnings.about(world.namespace, "job-1", since) for since in moments]
    said = [[one.message for one in some] for some in told]
    assert said == [["policy", "quota"], ["policy", "quota"], ["policy"], []]
    assert await warnings.about(world.namespace, "job-2") == []


async def test_many_that_ask_for_warnings_at_once_cost_one_list_and_later_ones_another(
    world: Any, system: str, kube: Kube
) -> None:
    lists: list[str] = []

    class Counting(Kube):
        def pages(self, resource: Resource, namespace: str | None, **selectors: str) -> AsyncIterator[list[Object]]:
            lists.append(resource.plural)
            return kube.pages(resource, namespace, **selectors)

    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    warnings = Warnings(Counting(None), lambda: now)
    await asyncio.gather(*(warnings.about(world.namespace, f"pod-{number}") for number in range(100)))
    assert lists == ["events"]
    now += LISTED_FOR
    await warnings.about(world.namespace, "pod-1")
    assert lists == ["events", "events"]


async def test_a_watch_brings_what_comes_changes_and_goes_and_leaves_no_trace(
    world: Any, system: str, kube: Kube
) -> None:
    owner = OwnerKind[dict[str, Any]](
        FINETUNEJOBS, lambda raw, before: raw, news=lambda before, after: False, settled=lambda raw: False
    )
    pods = ChildKind[str](
        PODS,
        JOB_LABEL,
        lambda raw: str(raw["status"]["phase"]),
        owner=lambda raw: str((raw["metadata"].get("labels") or {}).get(JOB_LABEL, "")),
        ended=lambda phase: phase == "Failed",
    )
    store: Store[dict[str, Any]] = Store(owner, (pods,))
    key = (world.namespace, "watched")
    until: Any = partial(asyncio.to_thread, world.until)
    watching = asyncio.create_task(watch([Informer(store, owner, (pods,), (world.namespace,))]))
    try:
        world.apply(job("watched", world.namespace))
        labelled = {"name": "ours", "namespace": world.namespace, "labels": {JOB_LABEL: "watched"}}
        for meta in (labelled, {"name": "stranger", "namespace": world.namespace}):
            world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": POD})
        await until(lambda: store.owner(key) and store.children(pods, key) == ["Pending"], "the job and its pod")
        world.request("PATCH", world.path("pods", "ours/status"), {"status": {"phase": "Failed"}}, MERGE)
        await until(lambda: store.children(pods, key) == ["Failed"], "the pod's end")
        untouched = world.get("finetunejobs", "watched")["metadata"]
        assert "finalizers" not in untouched
        assert not any("kopf" in name for name in untouched.get("annotations", {}))
        world.delete("finetunejobs", "watched")
        await until(lambda: store.owner(key) is None, "the job's end")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_the_operator_ends_soon_and_well_when_it_is_told_to_in_the_middle_of_its_work(
    world: Any, operator: Any
) -> None:
    world.apply(*(job(f"busy-{number}", world.namespace) for number in range(20)))
    world.run_pod("busy-0-train")
    world.until_status("busy-0", lambda status: status.stage == "Training", "stage Training")
    operator.process.terminate()
    assert operator.process.wait(15) == 0  # a pod is killed after 30
