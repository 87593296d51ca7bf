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
from finetune_operator.cache import Cache
from finetune_operator.client import connect
from finetune_operator.events import Announcement
from finetune_operator.job_object import Key
from finetune_operator.kube import Kube
from finetune_operator.queue import Queue
from finetune_operator.reconciler import Reconciler
from finetune_operator.settings import Settings
from finetune_operator.watches import fill

SPEC = {
    "model": {"source": "pvc://models/base"},
    "dataset": {"source": "pvc://data/rows"},
    "evaluation": {"dataset": {"source": "pvc://data/rows"}},
    "output": {"destination": "pvc://models/run"},
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
    """Applies a job."""
    metadata = {"name": name, "namespace": world.namespace}
    api = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob"}
    world.apply({**api, "metadata": metadata, "spec": SPEC | changes})


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


async def test_a_repeated_event_is_counted_instead_of_posted_again(world: Any, system: str, kube: CrashingKube) -> None:
    meta = ObjectMeta(name="told", namespace=world.namespace, uid="11111111-2222")
    for _ in range(3):
        await kube.announce(meta, Announcement("Warning", "Unschedulable", "0/1 nodes"), datetime.now(UTC))
    assert [(event["reason"], event["count"]) for event in world.objects("events")] == [("Unschedulable", 3)]
