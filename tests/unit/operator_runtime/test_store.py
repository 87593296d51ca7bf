"""The operator's cache: what arrives, what is forgotten, and what a late event can't undo."""

from __future__ import annotations

from typing import Any

from finetune_operator.finetunejob.job_object import Key
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Cache
from finetune_operator.runtime.watches import fill
from finetune_operator.settings import Settings

KEY = ("ml", "medqa")


class OldLists(Kube):
    """Lists that an API server made before everything was deleted, and that arrive after the DELETED events."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def list_jobs(self, namespace: str | None) -> list[dict[str, Any]]:
        return [job(1)]

    async def list_child_jobs(self, namespace: str | None) -> list[dict[str, Any]]:
        self._cache.remove(job(4))
        self._cache.remove_job(child("j", 5))
        return [child("j", 2)]

    async def list_child_pods(self, namespace: str | None, job: str | None = None) -> list[dict[str, Any]]:
        self._cache.remove_pod(child("p", 6))
        self._cache.seen(KEY, self._cache.pods(KEY), finished=False)
        return [child("p", 3)]


def job(version: int, uid: str = "u1") -> dict[str, Any]:
    """A FineTuneJob."""
    metadata = {"name": "medqa", "namespace": "ml", "uid": uid, "resourceVersion": str(version), "managedFields": [1]}
    return {"metadata": metadata, "spec": {"version": version}}


def child(uid: str, version: int, **status: Any) -> dict[str, Any]:
    """A Job or a pod."""
    labels = {"finetune.dev/job": "medqa"}
    metadata = {"name": uid, "namespace": "ml", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, "status": status}


def version(cache: Cache) -> int | None:
    """The version of the FineTuneJob that is kept."""
    raw = cache.raw(KEY)
    return raw["spec"]["version"] if raw else None


def test_an_echo_and_an_older_version_change_nothing() -> None:
    cache = Cache()
    assert cache.put(job(5)) == (KEY, True)
    assert cache.put(job(5)) == (KEY, False)
    assert cache.put(job(4)) == (KEY, False)
    assert version(cache) == 5
    assert cache.put_pod(child("p", 9, phase="Running"))[1]
    assert not cache.put_pod(child("p", 8, phase="Pending"))[1]
    assert not cache.put_pod(child("p", 9, phase="Running"))[1]
    assert cache.pods(KEY)[0].status.phase == "Running"


def test_managed_fields_are_not_kept() -> None:
    cache = Cache()
    cache.put(job(1))
    assert "managedFields" not in (cache.raw(KEY) or {})["metadata"]


def test_the_deletion_of_an_earlier_object_does_not_remove_its_namesake() -> None:
    cache = Cache()
    cache.put(job(1, "old"))
    cache.put(job(3, "new"))
    cache.remove(job(2, "old"))
    assert version(cache) == 3


def test_a_deleted_pod_is_kept_until_a_pass_has_seen_how_it_ended() -> None:
    cache = Cache()
    cache.put(job(1))
    cache.remove_pod(child("p", 2, phase="Succeeded"))
    assert [pod.status.phase for pod in cache.pods(KEY)] == ["Succeeded"]
    cache.seen(KEY, cache.pods(KEY), finished=False)
    assert cache.pods(KEY) == []


def test_a_pod_that_ends_and_is_deleted_while_a_pass_writes_is_left_for_the_next_pass() -> None:
    cache = Cache()
    cache.put(job(1))
    cache.put_pod(child("p", 2, phase="Running"))
    planned_from = cache.pods(KEY)
    cache.remove_pod(child("p", 3, phase="Succeeded"))
    cache.remove_pod(child("started and ended meanwhile", 4, phase="Failed"))
    cache.seen(KEY, planned_from, finished=False)
    assert [pod.status.phase for pod in cache.pods(KEY)] == ["Succeeded", "Failed"]
    cache.seen(KEY, cache.pods(KEY), finished=False)
    assert cache.pods(KEY) == []


def test_a_finished_job_s_ended_children_are_forgotten_and_running_ones_are_not() -> None:
    cache = Cache()
    cache.put(job(1))
    cache.put_job(child("done", 2, conditions=[{"type": "Complete", "status": "True"}]))
    cache.put_job(child("active", 3))
    cache.put_pod(child("ended", 4, phase="Failed"))
    cache.put_pod(child("running", 5, phase="Running"))
    cache.seen(KEY, cache.pods(KEY), finished=True)
    assert [one.metadata.uid for one in cache.jobs(KEY)] == ["active"]
    assert [one.metadata.uid for one in cache.pods(KEY)] == ["running"]


def test_nothing_is_left_of_a_deleted_job_once_its_children_are_gone() -> None:
    cache = Cache()
    cache.put(job(1))
    cache.put_job(child("j", 2))
    cache.put_pod(child("p", 3))
    cache.remove(job(4))
    cache.remove_job(child("j", 5))
    cache.remove_pod(child("p", 6))
    cache.seen(KEY, cache.pods(KEY), finished=False)
    assert len(cache) == 0


def test_a_sweep_removes_what_was_known_before_the_list_and_is_not_in_it() -> None:
    cache = Cache()
    cache.put(job(1))
    cache.put_job(child("lost", 2))
    cache.put_pod(child("kept", 3))
    known = cache.uids()
    cache.put_job(child("born during the list", 4))
    assert cache.sweep(known, {"u1", "kept"}) == {KEY}
    assert [one.metadata.uid for one in cache.jobs(KEY)] == ["born during the list"]
    assert [one.metadata.uid for one in cache.pods(KEY)] == ["kept"]
    assert cache.sweep(cache.uids(), {"kept", "born during the list"}) == {KEY}
    assert cache.raw(KEY) is None


async def test_a_list_does_not_bring_back_what_was_deleted_while_it_was_on_its_way() -> None:
    cache = Cache()
    await fill(OldLists(cache), cache, Queue[Key](lambda: 0.0), Settings(operator_namespace="finetune-system"))
    assert len(cache) == 0
