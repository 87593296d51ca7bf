"""The store: what is read, what is news, who is woken, what is found by index, and what is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from finetune_operator.runtime.resources import JOBS, PODS, Key, Resource
from finetune_operator.runtime.store import ChildKind, OwnerKind, Store

KEY = ("ml", "a")
OTHER = ("ml", "b")


@dataclass(frozen=True)
class Thing:
    """An owner as a controller of some kind would read it."""

    name: str
    place: str
    done: bool
    note: str


@dataclass(frozen=True)
class Part:
    """A child."""

    name: str
    phase: str
    place: str


class World:
    """A store of Things, with what it has read and whom it has woken."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.known: list[Thing | None] = []
        self.woken: list[Key] = []
        self.jobs = self._children(JOBS, keeps_deleted=False)
        self.pods = self._children(PODS, keeps_deleted=True)
        kind = OwnerKind[Thing](
            Resource("example.org", "v1", "things"),
            self._thing,
            news=lambda before, after: (before.place, before.done) != (after.place, after.done),
            settled=lambda thing: thing.done,
            indices={"place": lambda thing: None if thing.done else thing.place or None},
        )
        self.store = Store(kind, (self.jobs, self.pods), self.woken.append)

    def visited(self) -> list[Key]:
        """Whom changes have woken since the last call."""
        woken, self.woken[:] = list(self.woken), []
        return woken

    def _children(self, resource: Resource, *, keeps_deleted: bool) -> ChildKind[Part]:
        return ChildKind(
            resource,
            "example.org/thing",
            self._part,
            owner=lambda raw: str(raw["metadata"]["labels"]["thing"]),
            ended=lambda part: part.phase == "Ended",
            keeps_deleted=keeps_deleted,
            indices={"place": lambda part: part.place if part.place and part.phase != "Ended" else None},
        )

    def _thing(self, raw: dict[str, Any], before: Thing | None) -> Thing:
        if raw.get("broken"):
            raise ValueError("can't be read")
        self.known.append(before)
        self.read.append(raw["metadata"]["name"])
        return Thing(raw["metadata"]["name"], raw.get("place", ""), raw.get("done", False), raw.get("note", ""))

    def _part(self, raw: dict[str, Any]) -> Part:
        self.read.append(raw["metadata"]["name"])
        return Part(raw["metadata"]["name"], raw.get("phase", ""), raw.get("place", ""))


def thing(version: int, name: str = "a", uid: str = "", **content: Any) -> dict[str, Any]:
    """An owner as the API server sends it."""
    meta = {"namespace": "ml", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, **content}


def part(uid: str, version: int, of: str = "a", **content: Any) -> dict[str, Any]:
    """A child as the API server sends it."""
    meta = {"namespace": "ml", "name": uid, "uid": uid, "resourceVersion": str(version), "labels": {"thing": of}}
    return {"metadata": meta, **content}


@pytest.fixture
def world() -> World:
    """An empty store."""
    return World()


def names(parts: list[Part]) -> list[str]:
    """What parts are called."""
    return [one.name for one in parts]


def test_each_version_is_read_once_and_an_echo_or_an_older_one_never(world: World) -> None:
    for version in (5, 5, 4):
        world.store.put(thing(version, place="x"))
        world.store.put_child(world.pods, part("p", version))
    assert world.read == ["a", "p"]
    assert world.visited() == [KEY, KEY]


def test_a_new_version_that_says_nothing_new_wakes_nobody_and_is_kept(world: World) -> None:
    world.store.put(thing(1, note="step 1"))
    world.store.put_child(world.pods, part("p", 1, phase="Running"))
    world.visited()
    world.store.put(thing(2, note="step 2"))
    world.store.put_child(world.pods, part("p", 2, phase="Running"))
    assert world.visited() == []
    assert world.store.owner(KEY) == Thing("a", "", False, "step 2")
    world.store.put_child(world.pods, part("p", 3, phase="Ended"))
    assert world.visited() == [KEY]


def test_the_answer_to_a_pass_s_own_request_replaces_any_version_and_is_no_news_to_that_pass(world: World) -> None:
    world.store.put(thing(900, place="before the restore"))
    world.store.put_child(world.pods, part("p", 900, phase="Running"))
    world.visited()
    world.store.put(thing(7, place="after"), live=True)
    world.store.put_child(world.pods, part("p", 8, phase="Ended"), live=True)
    assert world.visited() == []
    found = world.store.owner(KEY)
    assert found is not None
    assert found.place == "after"
    world.store.put(thing(9, place="later"))
    assert world.visited() == [KEY]


def test_a_list_replaces_any_version_and_is_news(world: World) -> None:
    world.store.put(thing(900, place="before the restore"))
    world.visited()
    with world.store.filling():
        world.store.put_listed(thing(7, place="after"))
    assert world.visited() == [KEY]
    found = world.store.owner(KEY)
    assert found is not None
    assert found.place == "after"


def test_what_a_watch_tells_while_a_list_is_on_its_way_is_not_undone_by_it(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.pods, part("p", 2))
    with world.store.filling():
        world.store.put(thing(5, place="new"))
        world.store.remove_child(world.pods, part("p", 6))
        world.store.seen(KEY, world.store.children(world.pods, KEY))
        world.store.put_listed(thing(1, place="old"))
        world.store.put_listed(part("p", 2), world.pods)
    found = world.store.owner(KEY)
    assert found is not None
    assert found.place == "new"
    assert not world.store.children(world.pods, KEY)


def test_an_object_that_cannot_be_read_leaves_what_was_there(world: World) -> None:
    world.store.put(thing(1, place="x"))
    with pytest.raises(ValueError, match="can't be read"):
        world.store.put(thing(2, broken=True))
    assert world.store.owner(KEY) == Thing("a", "x", False, "")


def test_the_deletion_of_an_earlier_object_does_not_remove_its_namesake(world: World) -> None:
    world.store.put(thing(1, uid="old"))
    world.store.put(thing(3, uid="new", place="x"))
    world.store.remove(thing(2, uid="old"))
    assert world.store.owner(KEY) == Thing("a", "x", False, "")


def test_owners_and_children_are_found_by_the_value_that_they_have_now(world: World) -> None:
    world.store.put(thing(1, place="x"))
    world.store.put(thing(1, "b", place="x"))
    world.store.put_child(world.pods, part("p", 1, of="gone", place="x"))
    assert world.store.find("place", "x") == [KEY, OTHER, ("ml", "gone")]
    assert names(world.store.find_children(world.pods, "place", "x")) == ["p"]
    world.store.put(thing(2, place="y"))
    world.store.put_child(world.pods, part("p", 2, of="gone", phase="Ended", place="x"))
    assert world.store.find("place", "x") == [OTHER]
    assert world.store.find("place", "y") == [KEY]
    assert world.store.find("place", None) == []
    assert not world.store.find_children(world.pods, "place", "x")


@pytest.mark.parametrize("end", ["done", "deleted", "moved", "answer"])
def test_who_waits_for_a_place_is_woken_when_another_leaves_it(world: World, end: str) -> None:
    world.store.put(thing(1, place="x"))
    world.store.put(thing(1, "b", place="x"))
    world.visited()
    match end:
        case "done":
            world.store.put(thing(2, place="x", done=True))
        case "answer":
            world.store.put(thing(2, place="x", done=True), live=True)
        case "moved":
            world.store.put(thing(2, place="y"))
        case "deleted":
            world.store.remove(thing(2))
    assert OTHER in world.visited()


@pytest.mark.parametrize("deleted", [False, True])
def test_who_waits_for_a_place_is_woken_when_a_stranger_s_pod_leaves_it(world: World, deleted: bool) -> None:
    world.store.put_child(world.pods, part("p", 1, of="gone", place="x"))
    world.store.put(thing(1, "b", place="x"))
    world.visited()
    if deleted:
        world.store.remove_child(world.pods, part("p", 2, of="gone", place="x"))
    else:
        world.store.put_child(world.pods, part("p", 2, of="gone", place="x", phase="Ended"))
    assert OTHER in world.visited()


def test_a_deleted_pod_is_kept_until_a_pass_has_seen_how_it_ended(world: World) -> None:
    world.store.put(thing(1))
    world.store.remove_child(world.pods, part("p", 2, phase="Ended"))
    assert KEY in world.visited()
    assert [one.phase for one in world.store.children(world.pods, KEY)] == ["Ended"]
    world.store.seen(KEY, world.store.children(world.pods, KEY))
    assert not world.store.children(world.pods, KEY)


def test_a_pod_that_ends_and_is_deleted_while_a_pass_writes_is_left_for_the_next_pass(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.pods, part("p", 2, phase="Running"))
    planned_from = world.store.children(world.pods, KEY)
    world.store.remove_child(world.pods, part("p", 3, phase="Ended"))
    world.store.remove_child(world.pods, part("started and ended meanwhile", 4, phase="Ended"))
    world.store.seen(KEY, planned_from)
    assert [one.phase for one in world.store.children(world.pods, KEY)] == ["Ended", "Ended"]
    world.store.seen(KEY, world.store.children(world.pods, KEY))
    assert not world.store.children(world.pods, KEY)


def test_a_pass_drops_no_living_pod_with_the_deleted_ones(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.pods, part("lives", 2, phase="Running"))
    world.store.remove_child(world.pods, part("deleted", 3, phase="Ended"))
    world.store.seen(KEY, world.store.children(world.pods, KEY))
    assert names(world.store.children(world.pods, KEY)) == ["lives"]


def test_a_pod_that_is_gone_holds_no_place_and_keeps_no_done_owner(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.pods, part("p", 2, phase="Running", place="x"))
    world.store.remove_child(world.pods, part("p", 3, phase="Running", place="x"))
    assert not world.store.find_children(world.pods, "place", "x")
    assert len(world.store.children(world.pods, KEY)) == 1
    world.store.put(thing(4, done=True))
    assert world.store.settled(KEY)


def test_an_earlier_reading_is_handed_on_for_the_same_object_alone(world: World) -> None:
    for version, uid in ((1, "u"), (2, "u"), (3, "another")):
        world.store.put(thing(version, uid=uid, note=str(version)))
    assert world.known == [None, Thing("a", "", False, "1"), None]


def test_a_child_that_an_answer_showed_to_be_gone_is_forgotten(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.jobs, part("j", 2))
    world.store.drop_child(world.jobs, KEY, "j")
    world.store.drop_child(world.jobs, KEY, "never there")
    assert world.store.children(world.jobs, KEY) == []


def test_a_done_owner_becomes_a_record_once_its_last_child_has_ended_though_no_pass_runs(world: World) -> None:
    world.store.put(thing(1))
    world.store.put_child(world.jobs, part("j", 2, phase="Running"))
    world.store.put_child(world.pods, part("p", 3, phase="Ended"))
    world.store.put(thing(4, done=True))
    assert not world.store.settled(KEY)
    world.visited()
    world.store.put_child(world.jobs, part("j", 5, phase="Ended"))
    assert world.store.settled(KEY)
    assert (world.store.owner(KEY), len(world.store.children(world.pods, KEY))) == (None, 0)
    assert (world.visited(), len(world.store)) == ([], 1)


def test_a_record_s_ended_children_are_not_kept_and_a_live_one_asks_for_a_pass(world: World) -> None:
    world.store.put(thing(1, done=True))
    world.store.put_child(world.pods, part("p", 2, phase="Ended"))
    assert (world.visited(), len(world.store.children(world.pods, KEY))) == ([], 0)
    world.store.put_child(world.jobs, part("j", 3, phase="Running"))
    assert world.visited() == [KEY]
    world.store.put(thing(1, done=True), live=True)  # what the pass reads
    assert world.store.owner(KEY) is not None
    world.store.put_child(world.jobs, part("j", 4, phase="Ended"))
    assert (world.store.owner(KEY), len(world.store)) == (None, 1)


def test_a_record_wakes_nobody_when_it_is_touched_and_comes_back_to_life_under_a_new_uid(world: World) -> None:
    world.store.put(thing(1, done=True))
    world.store.put(thing(2, done=True, note="labelled"))
    assert world.visited() == []
    world.store.put(thing(3, uid="another", place="x"))
    assert world.visited() == [KEY]
    assert not world.store.settled(KEY)


def test_nothing_is_left_of_a_deleted_owner_once_its_children_are_gone(world: World) -> None:
    world.store.put(thing(1, place="x"))
    world.store.put_child(world.jobs, part("j", 2))
    world.store.put_child(world.pods, part("p", 3, place="x"))
    world.store.put(thing(1, "b", done=True))
    world.store.remove(thing(4))
    world.store.remove(thing(4, "b"))
    world.store.remove_child(world.jobs, part("j", 5))
    world.store.remove_child(world.pods, part("p", 6, place="x"))
    assert len(world.store) == 0
    assert world.store.find("place", "x") == []
    assert world.store.uids() == set()


def test_a_sweep_forgets_what_was_known_before_the_lists_and_is_not_in_them(world: World) -> None:
    world.store.put(thing(1))
    world.store.put(thing(1, "b", done=True))
    world.store.put_child(world.jobs, part("lost", 2))
    world.store.put_child(world.pods, part("kept", 3))
    known = world.store.uids()
    world.store.put_child(world.jobs, part("born during the lists", 4))
    world.visited()
    world.store.sweep(known, {"uid-a", "kept"})
    assert world.visited() == [KEY]
    assert names(world.store.children(world.jobs, KEY)) == ["born during the lists"]
    assert names(world.store.children(world.pods, KEY)) == ["kept"]
    assert not world.store.settled(OTHER)
    world.store.sweep(world.store.uids(), {"kept", "born during the lists"})
    assert world.store.owner(KEY) is None


def test_to_look_who_is_at_a_place_visits_nobody_elsewhere_among_ten_thousand(world: World) -> None:
    for number in range(10_000):
        world.store.put(thing(1, f"waiting-{number}", place=f"place-{number}"))
        world.store.put(thing(1, f"done-{number}", place="place-7", done=True))
    world.read.clear()
    visited = _Counting(world)
    world.store.put(thing(1, "new", place="place-7"))
    assert world.store.find("place", "place-7") == [("ml", "waiting-7"), ("ml", "new")]
    assert world.read == ["new"]
    assert visited.count < 10


class _Counting(dict[Any, Any]):
    """Stands in for a store's entries and counts what is looked up or iterated over."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store._entries)
        self.count = 0
        world.store._entries = self

    def __getitem__(self, key: Any) -> Any:
        self.count += 1
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.count += 1
        return super().get(key, default)

    def __iter__(self) -> Any:
        self.count += len(self)
        return super().__iter__()

    def items(self) -> Any:
        self.count += len(self)
        return super().items()

    def values(self) -> Any:
        self.count += len(self)
        return super().values()
