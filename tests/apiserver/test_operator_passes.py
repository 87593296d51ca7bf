"""Single passes of the reconciler against a real API server, each from nothing but what the server lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from finetune_api.base import canonical_json
from finetune_api.job import ObjectMeta
from finetune_operator.finetunejob.events import Announcement
from finetune_operator.finetunejob.job_object import Key
from finetune_operator.finetunejob.reconcile import Reconciler
from finetune_operator.runtime.client import connect
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Cache
from finetune_operator.runtime.watches import fill
from finetune_operator.settings import Settings

SPEC = {
    "model": {"source": "pvc://models/base"},
    "dataset": {"source": "pvc://data/rows"},
    "evaluation": {"dataset": {"source": "pvc://data/rows"}},
}


T = TypeVar("T")


class Crash(Exception):
    """The process ends here."""


class CrashingKube(Kube):
    """A connection whose process dies right after so many writes have reached the API server."""

    writes_left: int | None = None

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return await self._count(super().create(manifest))

    async def replace_status(self, job: dict[str, Any]) -> dict[str, Any]:
        return await self._count(super().replace_status(job))

    async def announce(self, *arguments: Any) -> None:
        await self._count(super().announce(*arguments))

    async def _count(self, write: Awaitable[T]) -> T:
        answer = await write
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left == 0:
                self.writes_left = None
                raise Crash
        return answer


@pytest_asyncio.fixture
async def kube(operator_kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CrashingKube]:
    """A connection with the operator's own rights."""
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    client = await connect()
    yield CrashingKube(client, "test")
    await client.close()


async def settle(
    kube: CrashingKube, namespace: str, name: str, later: float = 0, crash_after: int | None = None
) -> bool:
    """A restarted operator: lists, then passes until it need not come back at once. Says whether it got that far."""
    kube.writes_left = crash_after
    settings = Settings(operator_namespace="finetune-system", watch_namespaces=(namespace,))
    cache, queue = Cache(), Queue[Key](lambda: 0.0)
    await fill(kube, cache, queue, settings)
    reconciler = Reconciler(kube, cache, settings, lambda: datetime.now(UTC) + timedelta(seconds=later))
    try:
        while await reconciler.reconcile((namespace, name)) == 0:
            pass
    except Crash:
        return False
    finally:
        kube.writes_left = None
    return True


def apply(world: Any, name: str, **changes: Any) -> None:
    """Applies a job with an output folder of its own."""
    metadata = {"name": name, "namespace": world.namespace}
    api = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob"}
    world.apply(
        {**api, "metadata": metadata, "spec": SPEC | {"output": {"destination": f"pvc://models/{name}"}} | changes}
    )


def result(world: Any, name: str, spec_sha256: str) -> str:
    """A trainer's result."""
    head = {"version": 1, "stage": "Train", "jobUID": world.uid("finetunejobs", name), "specSha256": spec_sha256}
    training = {"steps": 2, "finalLoss": "0.5", "runtimeSeconds": 3}
    adapter = {"uri": "pvc://models/run/adapter", "sha256": "b" * 64, "sizeBytes": 1, "files": 1}
    return canonical_json(head | {"finishedAt": "2026-01-01T00:00:00Z", "training": training, "adapter": adapter})


async def test_a_crash_after_any_write_loses_nothing_and_starts_nothing_twice(
    world: Any, system: str, kube: CrashingKube
) -> None:
    crashes = 0
    while True:
        name = f"start-{crashes}"
        apply(world, name)
        went_well = await settle(kube, world.namespace, name, crash_after=crashes + 1)
        made = world.uid("jobs", f"{name}-train")
        assert await settle(kube, world.namespace, name)
        assert not made or world.uid("jobs", f"{name}-train") == made
        pod = world.run_pod(f"{name}-train")
        digest = world.get("jobs", f"{name}-train")["metadata"]["annotations"]["finetune.dev/spec-sha256"]
        world.end_pod(pod, 0, result(world, name, digest))
        await settle(kube, world.namespace, name, crash_after=crashes + 1)
        assert await settle(kube, world.namespace, name)
        status = world.status(name)
        assert [(one.stage, one.number) for one in status.attempts] == [("Train", 1), ("Evaluate", 1)]
        assert status.holds("Trained")
        assert status.attempts[1].job_uid == world.uid("jobs", f"{name}-eval")
        assert len(world.objects("pods", f"finetune.dev/job={name},finetune.dev/stage=train")) == 1
        if went_well:
            break
        crashes += 1
    assert crashes >= 3  # a ConfigMap, a Job and a status


async def test_a_pod_that_ends_and_is_deleted_while_a_pass_writes_status_does_not_lose_its_result(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "quick")
    assert await settle(kube, world.namespace, "quick")
    pod = world.run_pod("quick-train")
    cache = Cache()
    settings = Settings(operator_namespace="finetune-system", watch_namespaces=(world.namespace,))
    await fill(kube, cache, Queue[Key](lambda: 0.0), settings)
    reconciler = Reconciler(kube, cache, settings, lambda: datetime.now(UTC))
    write = kube.replace_status

    async def slow_write(job: dict[str, Any]) -> dict[str, Any]:
        digest = world.get("jobs", "quick-train")["metadata"]["annotations"]["finetune.dev/spec-sha256"]
        world.end_pod(pod, 0, result(world, "quick", digest))
        cache.remove_pod(world.get("pods", pod))  # the DELETED event
        return await write(job)

    with monkeypatch.context() as patch:
        patch.setattr(kube, "replace_status", slow_write)
        await reconciler.reconcile((world.namespace, "quick"))
    assert not world.status("quick").holds("Trained")
    await reconciler.reconcile((world.namespace, "quick"))
    assert world.status("quick").holds("Trained")


async def test_a_second_pass_over_a_settled_job_writes_nothing(world: Any, system: str, kube: CrashingKube) -> None:
    apply(world, "calm")
    await settle(kube, world.namespace, "calm")
    world.run_pod("calm-train")
    await settle(kube, world.namespace, "calm")
    before = world.get("finetunejobs", "calm")["metadata"]["resourceVersion"]
    assert await settle(kube, world.namespace, "calm", crash_after=1)
    assert world.get("finetunejobs", "calm")["metadata"]["resourceVersion"] == before


async def test_a_missing_claim_is_named_after_its_grace_and_leaves_no_job_behind(
    world: Any, system: str, kube: CrashingKube
) -> None:
    apply(world, "claimless")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "data", "namespace": world.namespace}
    world.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    await settle(kube, world.namespace, "claimless")
    world.until(lambda: world.objects("pods"), "a pod")
    pod = world.objects("pods")[0]["metadata"]["name"]
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.patch_pod(pod, {"conditions": [condition]})
    await settle(kube, world.namespace, "claimless")
    assert world.status("claimless").condition("Succeeded").reason == "Unschedulable"
    await settle(kube, world.namespace, "claimless", later=61)
    status = world.status("claimless")
    assert status.failure.reason == "VolumeNotFound"
    assert f"there is no PersistentVolumeClaim {world.namespace}/models;" in status.failure.message
    world.until(lambda: world.get("jobs", "claimless-train") is None, "the Job's deletion")


async def test_a_job_of_the_same_folder_that_comes_between_look_and_create_is_still_seen(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "late")
    cache, key = Cache(), (world.namespace, "late")
    raw = world.get("finetunejobs", "late")
    cache.put(raw)
    early = {"name": "early", "namespace": world.namespace, "uid": "0", "creationTimestamp": "2026-01-01T00:00:00Z"}
    live = kube.get_job

    async def meanwhile(*of: str) -> dict[str, Any] | None:
        cache.put({"metadata": {**early, "resourceVersion": "1"}, "spec": raw["spec"]})
        return await live(*of)

    monkeypatch.setattr(kube, "get_job", meanwhile)
    settings = Settings(operator_namespace="finetune-system", watch_namespaces=(world.namespace,))
    assert await Reconciler(kube, cache, settings, lambda: datetime.now(UTC)).reconcile(key) == 5
    assert "FineTuneJob early writes to the same folder" in world.status("late").condition("Succeeded").message
    assert world.get("jobs", "late-train") is None


async def test_a_job_that_is_refused_for_what_the_spec_says_fails_with_the_api_server_s_words(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "odd", runtime={"tolerations": [{"key": "spot", "operator": "Exists"}]})
    create = kube.create

    async def as_if_the_schema_let_it_through(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == "Job":
            manifest["spec"]["template"]["spec"]["tolerations"][0]["operator"] = "Perhaps"
        return await create(manifest)

    monkeypatch.setattr(kube, "create", as_if_the_schema_let_it_through)
    await settle(kube, world.namespace, "odd")
    failure = world.status("odd").failure
    assert failure.reason == "InvalidSpec"
    assert "tolerations[0].operator" in failure.message
    assert failure.message.endswith("correct the field and apply under a new name")


async def test_a_refusal_of_an_earlier_pod_says_nothing_of_a_later_one(
    world: Any, system: str, kube: CrashingKube
) -> None:
    job = {"kind": "Job", "namespace": world.namespace, "name": "refused", "uid": "job-1"}
    for name, words, moment in (("e1", "quota", "12:00:00"), ("e2", "policy", "12:00:10")):
        meta = {"name": name, "namespace": world.namespace}
        event = {"involvedObject": job, "reason": "FailedCreate", "message": words}
        times = {"firstTimestamp": f"2026-01-01T{moment}Z", "lastTimestamp": f"2026-01-01T{moment}Z"}
        world.apply({"apiVersion": "v1", "kind": "Event", "metadata": meta, **event, **times})
    at = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    later = [at, at + timedelta(seconds=10.5), at + timedelta(seconds=11)]
    told = [await kube.rejection_of(world.namespace, "job-1", since) for since in (None, *later)]
    assert told == ["policy", "policy", "policy", ""]


async def test_a_repeated_event_is_counted_instead_of_posted_again(world: Any, system: str, kube: CrashingKube) -> None:
    meta = ObjectMeta(name="told", namespace=world.namespace, uid="11111111-2222")
    for _ in range(3):
        await kube.announce(meta, Announcement("Warning", "Unschedulable", "0/1 nodes"), datetime.now(UTC))
    assert [(event["reason"], event["count"]) for event in world.objects("events")] == [("Unschedulable", 3)]
