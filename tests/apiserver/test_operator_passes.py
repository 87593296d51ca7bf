"""Single passes of the reconciler against a real API server, each from nothing but what the server lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import pytest_asyncio

from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.kinds import CONFIG_MAP, FINETUNEJOB, JOB, POD, ConfigMap
from finetune_operator.finetunejob.reconcile import Reconciler
from finetune_operator.runtime.client import ApiError, connect
from finetune_operator.runtime.events import Recorder
from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import CLAIMS, Object, Resource
from finetune_operator.runtime.store import Store
from finetune_operator.settings import Settings
from operator_jobs import job, message, trained

T = TypeVar("T")


class Crash(Exception):
    """The process ends here."""


class CrashingKube(Kube):
    """A connection whose process dies right after so many writes have reached the API server."""

    writes_left: int | None = None

    async def create(self, resource: Resource, manifest: Object) -> Object:
        return await self._count(super().create(resource, manifest))

    async def replace_status(self, resource: Resource, item: Object) -> Object:
        return await self._count(super().replace_status(resource, item))

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
    yield CrashingKube(client)
    await client.close()


class Restarted:
    """An operator that has just started, with a store of what the API server lists and no watches."""

    def __init__(self, kube: Kube, namespace: str, later: float = 0) -> None:
        self.settings = Settings(operator_namespace="finetune-system", watch_namespaces=(namespace,))
        self.store: Store[JobObject] = Store(FINETUNEJOB, (JOB, POD))
        self.config_maps: Store[ConfigMap] = Store(CONFIG_MAP)
        self._kube = kube

        def clock() -> datetime:
            return datetime.now(UTC) + timedelta(seconds=later)

        recorder = Recorder(kube, "finetune-operator", "test", clock)
        reconciler = Reconciler(kube, self.store, self.config_maps, recorder, self.settings, clock)
        self.reconcile = reconciler.reconcile

    async def fill(self) -> Restarted:
        """Lists."""
        await Informer(self.store, FINETUNEJOB, (JOB, POD), self.settings.watch_namespaces).fill(self._kube)
        await Informer(self.config_maps, CONFIG_MAP, namespaces=(self.settings.operator_namespace,)).fill(self._kube)
        return self


async def settle(
    kube: CrashingKube, namespace: str, name: str, later: float = 0, crash_after: int | None = None
) -> bool:
    """A restarted operator: lists, then passes until it need not come back at once. Says whether it got that far."""
    kube.writes_left = crash_after
    operator = await Restarted(kube, namespace, later).fill()
    try:
        while await operator.reconcile((namespace, name)) == 0:
            pass
    except Crash:
        return False
    finally:
        kube.writes_left = None
    return True


def apply(world: Any, name: str, **changes: Any) -> None:
    """Applies a job with an output folder of its own."""
    made = job(name, world.namespace)
    spec = {field: value for field, value in (made["spec"] | changes).items() if value is not None}
    world.apply(made | {"spec": spec})


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
        world.end_pod(pod, 0, trained(world, name))
        await settle(kube, world.namespace, name, crash_after=crashes + 1)
        evaluation = world.uid("jobs", f"{name}-eval")
        assert await settle(kube, world.namespace, name)
        status = world.status(name)
        assert [(one.stage, one.number) for one in status.attempts] == [("Train", 1)]
        assert status.holds("Trained")
        assert not evaluation or world.uid("jobs", f"{name}-eval") == evaluation
        assert len(world.objects("pods", f"finetune.dev/job={name},finetune.dev/stage=train")) == 1
        if went_well:
            break
        crashes += 1
    assert crashes >= 2  # a status and a Job


async def test_a_pod_that_ends_and_is_deleted_while_a_pass_writes_status_does_not_lose_its_result(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "quick")
    assert await settle(kube, world.namespace, "quick")
    pod = world.run_pod("quick-train")
    operator = await Restarted(kube, world.namespace).fill()
    write = kube.replace_status

    async def slow_write(resource: Resource, item: Object) -> Object:
        world.end_pod(pod, 0, trained(world, "quick"))
        operator.store.remove_child(POD, world.get("pods", pod))  # the DELETED event
        return await write(resource, item)

    with monkeypatch.context() as patch:
        patch.setattr(kube, "replace_status", slow_write)
        await operator.reconcile((world.namespace, "quick"))
    assert not world.status("quick").holds("Trained")
    await operator.reconcile((world.namespace, "quick"))
    assert world.status("quick").holds("Trained")


async def test_a_second_pass_over_a_settled_job_writes_nothing(world: Any, system: str, kube: CrashingKube) -> None:
    apply(world, "calm")
    await settle(kube, world.namespace, "calm")
    world.run_pod("calm-train")
    await settle(kube, world.namespace, "calm")
    before = world.get("finetunejobs", "calm")["metadata"]["resourceVersion"]
    assert await settle(kube, world.namespace, "calm", crash_after=1)
    assert world.get("finetunejobs", "calm")["metadata"]["resourceVersion"] == before


async def test_a_missing_claim_is_named_and_the_job_goes_on_once_it_is_there(
    world: Any, system: str, kube: CrashingKube
) -> None:
    apply(world, "claimless")
    _claim(world, "data")
    await settle(kube, world.namespace, "claimless")
    world.until(lambda: world.objects("pods"), "a pod")
    pod = world.objects("pods")[0]["metadata"]["name"]
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.patch_pod(pod, {"conditions": [condition]})
    await settle(kube, world.namespace, "claimless")
    told = world.status("claimless").condition("Succeeded")
    assert (told.status, told.reason) == ("Unknown", "VolumeNotFound")
    assert f"{world.namespace}/models" in told.message
    _claim(world, "models")
    await settle(kube, world.namespace, "claimless")
    assert world.status("claimless").condition("Succeeded").reason == "Unschedulable"
    world.run_pod("claimless-train")
    await settle(kube, world.namespace, "claimless")
    assert world.status("claimless").stage == "Training"


def _claim(world: Any, name: str) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": name, "namespace": world.namespace}
    world.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})


@pytest.mark.parametrize("told_before", [False, True], ids=["first status", "live look"])
async def test_a_job_of_the_same_folder_that_comes_between_look_and_create_is_still_seen(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch, told_before: bool
) -> None:
    apply(world, "late")
    if told_before:
        assert not await settle(kube, world.namespace, "late", crash_after=1)
    operator = await Restarted(kube, world.namespace).fill()
    early = {"name": "early", "namespace": world.namespace, "uid": "0", "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = world.get("finetunejobs", "late")["spec"]
    live, write = kube.get, kube.replace_status

    def comes() -> None:
        operator.store.put({"metadata": {**early, "resourceVersion": "1"}, "spec": spec})

    async def meanwhile(resource: Resource, namespace: str, name: str) -> Object | None:
        comes()
        return await live(resource, namespace, name)

    async def meanwhile_written(resource: Resource, item: Object) -> Object:
        comes()
        return await write(resource, item)

    monkeypatch.setattr(kube, "get", meanwhile)
    monkeypatch.setattr(kube, "replace_status", meanwhile_written)
    assert await operator.reconcile((world.namespace, "late")) != 0
    assert "FineTuneJob early" in world.status("late").condition("Succeeded").message
    assert world.get("jobs", "late-train") is None


async def test_a_job_deleted_since_the_last_list_is_not_started(world: Any, system: str, kube: CrashingKube) -> None:
    for name in ("gone", "again"):
        apply(world, name)
        assert not await settle(kube, world.namespace, name, crash_after=1)
    operator = await Restarted(kube, world.namespace).fill()
    before = world.uid("finetunejobs", "again")
    for name in ("gone", "again"):
        world.delete("finetunejobs", name)
    apply(world, "again")
    for name in ("gone", "again"):
        await operator.reconcile((world.namespace, name))
    assert operator.store.owner((world.namespace, "gone")) is None
    assert world.objects("jobs") == []
    while await operator.reconcile((world.namespace, "again")) == 0:
        pass
    owner = world.get("jobs", "again-train")["metadata"]["ownerReferences"][0]["uid"]
    assert owner == world.uid("finetunejobs", "again") != before


async def test_a_job_lost_to_a_missed_event_is_asked_to_go_once_and_then_forgotten(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "failed", evaluation=None)
    await settle(kube, world.namespace, "failed")
    pod = world.run_pod("failed-train")
    operator = await Restarted(kube, world.namespace).fill()
    key = (world.namespace, "failed")
    words = {"reason": "DatasetInvalid", "message": "row 17 has no answer"}
    world.end_pod(pod, 143, message(world, "failed", "Train", failure=words))  # a code that no policy knows
    operator.store.put_child(POD, world.get("pods", pod))
    world.delete("jobs", "failed-train")
    world.until(lambda: world.get("jobs", "failed-train") is None, "the Job's end")
    deletes: list[str] = []
    delete = kube.delete

    async def counted(resource: Resource, namespace: str, name: str, uid: str) -> bool:
        deletes.append(name)
        return await delete(resource, namespace, name, uid)

    monkeypatch.setattr(kube, "delete", counted)
    for _ in range(5):
        await operator.reconcile(key)
    assert world.status("failed").stage == "Failed"
    assert deletes == ["failed-train"]


async def test_after_a_restore_of_the_storage_a_pass_goes_on_from_what_is_there_now(
    world: Any, system: str, kube: CrashingKube
) -> None:
    apply(world, "restored")
    operator = await Restarted(kube, world.namespace).fill()
    key = (world.namespace, "restored")
    future = world.get("finetunejobs", "restored")
    future["metadata"]["resourceVersion"] = "99999999"
    operator.store.put(future)
    revisits = [await operator.reconcile(key) for _ in range(2)]
    assert revisits[0] == 0
    assert revisits[1] != 0
    assert world.get("jobs", "restored-train")


async def test_a_status_write_that_always_comes_too_late_is_a_failed_pass_and_backs_off(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "raced")
    operator = await Restarted(kube, world.namespace).fill()
    write = kube.replace_status

    async def beaten(resource: Resource, item: Object) -> Object:
        meta = {**item["metadata"], "resourceVersion": "1"}
        return await write(resource, {**item, "metadata": meta})

    monkeypatch.setattr(kube, "replace_status", beaten)
    key = (world.namespace, "raced")
    assert await operator.reconcile(key) == 0
    with pytest.raises(ApiError) as failed:
        await operator.reconcile(key)
    assert failed.value.status == 409


async def test_a_job_that_is_refused_for_what_the_spec_says_fails_with_the_api_server_s_words(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "odd", runtime={"tolerations": [{"key": "spot", "operator": "Exists"}]})
    create = kube.create

    async def as_if_the_schema_let_it_through(resource: Resource, manifest: Object) -> Object:
        if manifest["kind"] == "Job":
            manifest["spec"]["template"]["spec"]["tolerations"][0]["operator"] = "Perhaps"
        return await create(resource, manifest)

    monkeypatch.setattr(kube, "create", as_if_the_schema_let_it_through)
    await settle(kube, world.namespace, "odd")
    failure = world.status("odd").failure
    assert failure.reason == "InvalidSpec"
    assert "tolerations[0].operator" in failure.message
    assert failure.message.endswith("correct the field and apply under a new name")


async def test_a_spec_whose_templates_fill_more_than_a_job_may_carry_fails_and_says_so(
    world: Any, system: str, kube: CrashingKube
) -> None:
    """Each template is as long as it may be; what they come to, no rule of the CRD can count."""
    texts = {"promptTemplate": "{question}", "optionTemplate": "{option}", "responseTemplate": "{answer}"}
    long = {name: text.ljust(8192, "x") for name, text in texts.items()}
    shape = {"format": "MultipleChoice", **long}
    mixture = [{"name": f"m{number}", "source": "pvc://data/more", **shape} for number in range(8)]
    document = job("large", world.namespace)
    held_out = {"source": "pvc://data/rows", **shape}
    document["spec"]["dataset"] |= shape | {"mixture": mixture, "replay": {"source": "pvc://data/old", **shape}}
    document["spec"]["evaluation"] = {"dataset": held_out, "retention": {**held_out, "split": "dev"}}
    world.request("POST", world.path("finetunejobs"), document)  # client-side apply can't carry it either
    await settle(kube, world.namespace, "large")
    failure = world.status("large").failure
    assert failure.reason == "InvalidSpec"
    assert "spec.template.annotations: Too long: may not be more than 262144 bytes" in failure.message
    assert "shorten the spec's templates" in failure.message


async def test_what_a_pass_knows_of_an_object_is_not_used_for_another_of_its_name(
    world: Any, system: str, kube: CrashingKube
) -> None:
    apply(world, "twice", runtime={"profile": f"late-{world.namespace}"})
    assert await settle(kube, world.namespace, "twice")
    assert world.status("twice").condition("Succeeded").reason == "ProfileNotFound"
    meta = {"name": f"finetune-profile-late-{world.namespace}", "namespace": system}
    data = {"profile.yaml": "image: registry.example/trainer:1"}
    world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    operator = await Restarted(kube, world.namespace).fill()
    old = world.uid("finetunejobs", "twice")
    world.delete("finetunejobs", "twice")
    apply(world, "twice")
    world.until(lambda: world.uid("finetunejobs", "twice") not in ("", old), "the new object")
    assert await operator.reconcile((world.namespace, "twice")) == 0
    assert world.get("jobs", "twice-train") is None
    assert world.status("twice").conditions == []
    assert await operator.reconcile((world.namespace, "twice")) != 0
    assert world.get("jobs", "twice-train")["metadata"]["ownerReferences"][0]["uid"] != old


async def test_what_the_api_server_fails_at_a_read_is_in_status_and_the_pass_counts_as_failed(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "unread")
    await settle(kube, world.namespace, "unread")
    world.until(lambda: world.objects("pods"), "a pod")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.patch_pod(world.objects("pods")[0]["metadata"]["name"], {"conditions": [condition]})
    get = kube.get

    async def without_claims(resource: Resource, namespace: str, name: str) -> Object | None:
        if resource == CLAIMS:
            raise ApiError(500, "InternalError", "etcdserver: request timed out")
        return await get(resource, namespace, name)

    monkeypatch.setattr(kube, "get", without_claims)
    with pytest.raises(ApiError):
        await settle(kube, world.namespace, "unread")
    told = world.status("unread").condition("Succeeded")
    assert (told.status, told.reason) == ("Unknown", "ApiError")
    assert told.message.endswith("500 etcdserver: request timed out")


@pytest.mark.parametrize("arrives", [False, True], ids=["lost", "arrived"])
@pytest.mark.parametrize("error", [TimeoutError(), aiohttp.ServerDisconnectedError()], ids=["late", "cut off"])
async def test_a_create_that_gets_no_answer_is_in_status_and_one_that_arrived_is_not_repeated(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch, error: Exception, arrives: bool
) -> None:
    name = "unanswered"
    apply(world, name)
    create = kube.create

    async def unanswered(resource: Resource, manifest: Object) -> Object:
        if resource == JOB.resource and arrives:
            await create(resource, manifest)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(kube, "create", unanswered)
        with pytest.raises(type(error)):
            await settle(kube, world.namespace, name)
    told = world.status(name).condition("Succeeded")
    assert (told.status, told.reason) == ("Unknown", "ApiError")
    assert told.message.startswith(f"Job {name}-train can't be created: ")
    made = world.uid("jobs", f"{name}-train")
    assert bool(made) == arrives
    assert await settle(kube, world.namespace, name)
    assert world.status(name).condition("Succeeded").reason == "Pending"
    assert world.uid("jobs", f"{name}-train")
    assert not made or world.uid("jobs", f"{name}-train") == made


async def test_a_read_that_gets_no_answer_is_in_status(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "silent")
    get = kube.get

    async def no_answer(resource: Resource, namespace: str, name: str) -> Object | None:
        if resource == JOB.resource:
            raise TimeoutError
        return await get(resource, namespace, name)

    monkeypatch.setattr(kube, "get", no_answer)
    meta = {"name": "silent-train", "namespace": world.namespace}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/c"}]}}
    world.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}})
    with pytest.raises(TimeoutError):
        await settle(kube, world.namespace, "silent")
    told = world.status("silent").condition("Succeeded")
    assert (told.reason, told.message) == (
        "ApiError",
        "the API server does not do what the job needs: no answer in time",
    )


async def test_a_child_that_has_lost_its_labels_is_named_and_taken_up_once_they_are_back(
    world: Any, system: str, kube: CrashingKube
) -> None:
    apply(world, "bare")
    await settle(kube, world.namespace, "bare")
    made = world.uid("jobs", "bare-train")
    _patch_job(world, "bare-train", {"spec": {"suspend": True}})
    world.until(lambda: not world.objects("pods"), "no pod")
    _patch_job(world, "bare-train", {"metadata": {"labels": {"finetune.dev/job": None}}})
    with pytest.raises(ApiError):
        await settle(kube, world.namespace, "bare")
    told = world.status("bare").condition("Succeeded")
    assert (told.status, told.reason) == ("Unknown", "ApiError")
    assert told.message == "Job bare-train has lost labels of its own: put back finetune.dev/job=bare, or delete it"
    _patch_job(world, "bare-train", {"metadata": {"labels": {"finetune.dev/job": "bare"}}})
    assert await settle(kube, world.namespace, "bare")
    assert world.status("bare").condition("Succeeded").reason == "Suspended"
    assert world.uid("jobs", "bare-train") == made


def _patch_job(world: Any, name: str, change: Object) -> None:
    world.request("PATCH", world.path("jobs", name), change, "application/merge-patch+json")


@pytest.mark.parametrize("answer", ["none", "an error", "that it exists, and then none"])
async def test_a_job_whose_create_got_no_clear_answer_keeps_its_folder(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    same = {"output": {"destination": "pvc://models/same"}}
    apply(world, "first", **same)
    operator = await Restarted(kube, world.namespace).fill()
    create, get = kube.create, kube.get

    async def unclear(resource: Resource, manifest: Object) -> Object:
        made = await create(resource, manifest)
        if resource == JOB.resource:
            raise {
                "none": TimeoutError(),
                "an error": ApiError(504, "Timeout", "request timed out"),
                "that it exists, and then none": ApiError(409, "AlreadyExists", "it is there"),
            }[answer]
        return made

    async def no_jobs(resource: Resource, namespace: str, name: str) -> Object | None:
        if resource == JOB.resource:
            raise TimeoutError
        return await get(resource, namespace, name)

    with monkeypatch.context() as patch:
        patch.setattr(kube, "create", unclear)
        patch.setattr(kube, "get", no_jobs)
        with pytest.raises((ApiError, TimeoutError)):
            await operator.reconcile((world.namespace, "first"))
    apply(world, "second", **same)
    operator.store.put(world.get("finetunejobs", "second"))
    await operator.reconcile((world.namespace, "second"))
    assert "FineTuneJob first writes to the same folder" in world.status("second").condition("Succeeded").message
    assert world.get("jobs", "second-train") is None
    assert await operator.reconcile((world.namespace, "first")) != 0
    assert world.status("first").condition("Succeeded").reason == "Pending"


async def test_a_status_that_the_api_server_refuses_is_told_in_an_event_that_is_counted(
    world: Any, system: str, kube: CrashingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "mute")

    async def denied(resource: Resource, item: Object) -> Object:
        raise ApiError(403, "Forbidden", "admission webhook denied the request: no updates on Sundays")

    monkeypatch.setattr(kube, "replace_status", denied)
    operator = await Restarted(kube, world.namespace).fill()
    for _ in range(2):
        with pytest.raises(ApiError):
            await operator.reconcile((world.namespace, "mute"))
    told = [(one["reason"], one["count"], one["involvedObject"]["name"]) for one in world.objects("events")]
    assert told == [("ApiError", 2, "mute")]
    assert "status can't be written: admission webhook denied" in world.objects("events")[0]["message"]
    assert world.objects("jobs") == []


async def test_a_job_that_stays_when_only_its_finetunejob_is_deleted_keeps_the_folder(
    world: Any, system: str, kube: CrashingKube
) -> None:
    same = {"output": {"destination": "pvc://models/same"}}
    apply(world, "gone", **same)
    await settle(kube, world.namespace, "gone")
    _patch_job(world, "gone-train", {"spec": {"suspend": True}})
    world.until(lambda: not world.objects("pods"), "no pod")
    world.request("DELETE", world.path("finetunejobs", "gone"), {"propagationPolicy": "Orphan"})
    world.until(lambda: world.get("finetunejobs", "gone") is None, "its end")
    apply(world, "next", **same)
    assert await settle(kube, world.namespace, "next")
    said = world.status("next").condition("Succeeded").message
    assert said.startswith("Job gone-train of FineTuneJob gone may still start pods that write to the same folder")
    assert world.get("jobs", "next-train") is None
    world.delete("jobs", "gone-train")
    world.until(lambda: world.get("jobs", "gone-train") is None, "the Job's end")
    assert await settle(kube, world.namespace, "next")
    assert world.get("jobs", "next-train")
