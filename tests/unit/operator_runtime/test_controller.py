"""A controller: what it queues, in which order, and what becomes of a pass that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from finetune_operator.runtime.client import ApiError
from finetune_operator.runtime.controller import Controller, Reconcile
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import PODS, Key, Object, Resource
from finetune_operator.runtime.store import ChildKind, OwnerKind, Store

THINGS = Resource("example.org", "v1", "things")
THING = OwnerKind[int](
    THINGS,
    lambda raw, before: int(raw["size"]),
    news=lambda before, after: before != after,
    settled=lambda size: not size,
)
POD = ChildKind[str](
    PODS,
    "thing",
    lambda raw: str(raw["size"]),
    owner=lambda raw: str(raw["metadata"]["labels"].get("thing", "")),
    ended=bool,
)


class Listing(Kube):
    """Lists what a test says, page by page, and remembers what it was asked for."""

    def __init__(self, **pages: list[list[Object]]) -> None:
        self.lists = pages
        self.asked: list[tuple[str, str | None, str]] = []

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[list[Object]]:
        self.asked.append((resource.plural, namespace, labels))
        for page in self.lists.get(resource.plural, []):
            yield page


class Passes:
    """A reconciler that notes what it was called for and answers as a test says."""

    def __init__(self, *answers: float | Exception | None) -> None:
        self.answers = list(answers)
        self.seen: list[str] = []
        self.more = asyncio.Event()

    def __call__(self, store: Store[int]) -> Reconcile:
        return self.reconcile

    async def reconcile(self, key: Key) -> float | None:
        self.seen.append(key[1])
        self.more.set()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def raw(name: str, version: int = 1, size: Any = 1, **labels: str) -> Object:
    """An object."""
    meta = {"namespace": "ml", "name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
    return {"metadata": meta, "size": size}


def controller(passes: Passes, clock: Any = None, *namespaces: str) -> Controller[int]:
    """A controller of things and their pods."""
    now = clock or asyncio.get_running_loop().time
    return Controller(THING, (POD,), passes, namespaces=namespaces, clock=now)


async def until(passes: Passes, count: int, made: Controller[int]) -> list[str]:
    """Lets workers run until there have been so many passes."""
    workers = [asyncio.create_task(made.work()) for _ in range(4)]
    async with asyncio.timeout(10):
        while len(passes.seen) < count:
            passes.more.clear()
            await passes.more.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return passes.seen


async def test_the_first_list_queues_what_is_not_settled_and_a_second_only_what_has_changed() -> None:
    passes = Passes()
    made = controller(passes)
    kube = Listing(things=[[raw("a"), raw("done", size=0)], [raw("b"), raw("c")]])
    await made.fill(kube)
    assert sorted(await until(passes, 3, made)) == ["a", "b", "c"]
    kube.lists["things"] = [[raw("a"), raw("b", 2), raw("c", 2, size=5), raw("done", size=0)]]
    await made.fill(kube)
    assert (await until(passes, 4, made))[3:] == ["c"]


async def test_lists_are_of_the_watched_namespaces_and_of_labelled_children_alone() -> None:
    kube = Listing()
    await controller(Passes(), None, "ml", "team").fill(kube)
    await controller(Passes()).fill(kube)
    one = [("things", "ml", ""), ("pods", "ml", "thing"), ("things", "team", ""), ("pods", "team", "thing")]
    assert kube.asked == [*one, ("things", None, ""), ("pods", None, "thing")]


async def test_the_list_that_a_watch_starts_with_replaces_what_a_restored_storage_no_longer_has() -> None:
    made = controller(Passes())
    made.informer.owner_event("ADDED", raw("a", 900, size=9))
    made.informer.child_event(POD, "ADDED", raw("pod", 900, size="9", thing="a"))
    made.informer.owner_event(None, raw("a", 7, size=3))
    made.informer.child_event(POD, None, raw("pod", 8, size="3", thing="a"))
    made.informer.owner_event("MODIFIED", raw("a", 5, size=1))
    assert made.store.owner(("ml", "a")) == 3
    assert made.store.children(POD, ("ml", "a")) == ["3"]


async def test_an_event_goes_ahead_of_what_a_long_list_has_queued() -> None:
    now = 100.0
    passes = Passes()
    made = controller(passes, lambda: now)
    await made.fill(Listing(things=[[raw(f"old-{number}") for number in range(1000)]]))
    made.informer.owner_event("ADDED", raw("new"))
    assert await until(passes, 2, made) == ["old-0", "new"]


async def test_one_object_that_cannot_be_read_does_not_keep_the_others_away(caplog: pytest.LogCaptureFixture) -> None:
    passes = Passes()
    made = controller(passes)
    await made.fill(Listing(things=[[raw("bad", size="huge"), raw("good")]]))
    assert await until(passes, 1, made) == ["good"]
    assert "things.example.org ml/bad can't be read" in caplog.text


async def test_a_pass_that_fails_comes_back_and_takes_no_worker_with_it(caplog: pytest.LogCaptureFixture) -> None:
    passes = Passes(ApiError(500, "InternalError", "etcd is away"), ValueError("a mistake of ours"))
    made = controller(passes)
    made.informer.owner_event("ADDED", raw("a"))
    assert await until(passes, 3, made) == ["a", "a", "a"]
    assert "ml/a: again in 0.5 s: 500 etcd is away" in caplog.text
    assert "a mistake of ours" in caplog.text


async def test_a_pass_is_repeated_when_it_asks_for_it_and_not_otherwise() -> None:
    passes = Passes(0.0, None)
    made = controller(passes)
    made.informer.owner_event("ADDED", raw("a"))
    await until(passes, 2, made)
    made.informer.owner_event("ADDED", raw("b"))
    assert await until(passes, 3, made) == ["a", "a", "b"]


async def test_a_child_s_event_wakes_its_owner_and_another_controller_s_child_nobody() -> None:
    passes = Passes()
    made = controller(passes)
    made.informer.child_event(POD, "ADDED", raw("stranger"))
    made.informer.child_event(POD, "ADDED", raw("pod", thing="a"))
    assert await until(passes, 1, made) == ["a"]
    assert len(made.store) == 1


async def test_a_list_that_fails_halfway_forgets_nothing() -> None:
    class Failing(Listing):
        async def pages(
            self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
        ) -> AsyncIterator[list[Object]]:
            if resource == PODS:
                raise ApiError(500, "InternalError", "etcd is away")
            yield []

    made = controller(Passes())
    made.informer.owner_event("ADDED", raw("a"))
    with pytest.raises(ApiError):
        await made.fill(Failing())
    assert made.store.owner(("ml", "a")) == 1
