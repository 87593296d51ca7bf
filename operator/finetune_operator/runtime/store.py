"""What the watches have told: objects of one kind with their children, parsed once, found by key or by index.

Nothing here knows a kind: how one is parsed, what is news and what is settled come with OwnerKind and ChildKind.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from finetune_operator.runtime.index import Index, Place, Uid, places
from finetune_operator.runtime.resources import Key, Object, Resource

__all__ = ["ChildKind", "Key", "Object", "OwnerKind", "Store"]

T = TypeVar("T")
C = TypeVar("C", covariant=True)


@dataclass(frozen=True, eq=False)
class OwnerKind(Generic[T]):
    """The kind that a controller reconciles.

    ``parse`` gets the object and the earlier reading of the same object, whose unchangeable parts it may keep. ``news``
    says whether a change needs a pass, ``settled`` whether nothing is left to do once its children have ended: of such
    an object only a small record is kept. An index gives the value under which an object is found, or None.
    """

    resource: Resource
    parse: Callable[[Object, T | None], T]
    news: Callable[[T, T], bool]
    settled: Callable[[T], bool]
    indices: Mapping[str, Callable[[T], Hashable | None]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ChildKind(Generic[C]):
    """A kind of children. ``owner`` gives the name of the object that a child belongs to, from the child's labels."""

    resource: Resource
    selector: str  # of labels, at the API server
    parse: Callable[[Object], C]
    owner: Callable[[Object], str]
    ended: Callable[[C], bool]
    same: Callable[[C, C], bool] = operator.eq  # whether a new reading says nothing new
    keeps_deleted: bool = False  # the last state of a deleted one is kept until a pass has seen it
    indices: Mapping[str, Callable[[C], Hashable | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _Held:
    """One object as it was last read, and where it stands in the indices."""

    uid: Uid
    version: str
    value: Any
    places: tuple[Place, ...]


@dataclass(slots=True)
class _Entry:
    """One owner and its children by UID; ``gone`` are those of deleted children that no pass has seen yet."""

    owner: _Held | None = None
    children: dict[ChildKind[Any], dict[Uid, _Held]] = field(default_factory=dict)
    gone: set[Uid] = field(default_factory=set)

    def of(self, kind: ChildKind[Any]) -> dict[Uid, _Held]:
        """The children of a kind."""
        return self.children.get(kind, {})

    def held(self) -> list[_Held]:
        """Everything that is kept of it."""
        children = [held for some in self.children.values() for held in some.values()]
        return [self.owner, *children] if self.owner else children

    def lives(self) -> bool:
        """Whether a child has neither ended nor gone."""
        return any(
            uid not in self.gone and not kind.ended(held.value)
            for kind, some in self.children.items()
            for uid, held in some.items()
        )


class Store(Generic[T]):
    """Everything that is watched for one controller. Each change calls ``wake`` for the keys that want a pass."""

    def __init__(
        self,
        owner: OwnerKind[T],
        children: Iterable[ChildKind[Any]] = (),
        wake: Callable[[Key], object] = lambda key: None,
    ) -> None:
        self._kind = owner
        self._kinds = tuple(children)
        self._wake = wake
        self._entries: dict[Key, _Entry] = {}
        self._settled: dict[Key, tuple[Uid, str]] = {}  # UID and version of those that need nothing more
        self._index = Index()
        self._touched: set[Uid] | None = None  # what was told of while lists are read; None at other times

    def __len__(self) -> int:
        return len(self._entries.keys() | self._settled.keys())

    def owner(self, key: Key) -> T | None:
        """An owner as it was last read; None when it is unknown, or settled and no more than a record."""
        entry = self._entries.get(key)
        return entry.owner.value if entry and entry.owner else None

    def settled(self, key: Key) -> bool:
        """Whether only a record is kept of this owner."""
        return key in self._settled

    def children(self, kind: ChildKind[C], key: Key) -> list[C]:
        """The children that name this owner, whoever controls them; also such as were deleted since the last pass."""
        entry = self._entries.get(key)
        return [held.value for held in entry.of(kind).values()] if entry else []

    def find(self, index: str, value: Hashable) -> list[Key]:
        """The keys whose owner, or a child of it, stands in an index under a value."""
        return list(dict.fromkeys(key for key, _ in self._index.find((index, value))))

    def find_children(self, kind: ChildKind[C], index: str, value: Hashable) -> list[C]:
        """The children of a kind that stand in an index under a value, also those of owners that are gone."""
        found = ((self._entries[key].of(kind), uid) for key, uid in self._index.find((index, value)))
        return [children[uid].value for children, uid in found if uid in children]

    def put(self, raw: Object, *, live: bool = False) -> None:
        """Takes in an owner, unless what is kept is as new.

        What a pass has read ``live``, as the answer to a request of its own, replaces what is kept whatever its version
        (after a restore of the API server's storage versions go back), and is no news to that pass. Raises what the
        kind's ``parse`` raises, and then keeps what was there.
        """
        self._touch(raw["metadata"]["uid"])
        self._put(raw, live, wake=not live)

    def put_child(self, kind: ChildKind[Any], raw: Object, *, live: bool = False) -> None:
        """Takes in a child, as :meth:`put` does an owner."""
        self._touch(raw["metadata"]["uid"])
        self._put_child(kind, raw, live, wake=not live)

    def put_listed(self, raw: Object, kind: ChildKind[Any] | None = None) -> None:
        """Takes in an owner, or a child of a kind, from a list read within :meth:`filling`, whatever its version."""
        if self._touched is not None and raw["metadata"]["uid"] in self._touched:
            return
        if kind:
            self._put_child(kind, raw, live=True, wake=True)
        else:
            self._put(raw, live=True, wake=True)

    def remove(self, raw: Object) -> None:
        """Forgets an owner, unless a namesake has taken its place."""
        meta = raw["metadata"]
        self._touch(meta["uid"])
        self._forget((meta["namespace"], meta["name"]), meta["uid"])

    def remove_child(self, kind: ChildKind[Any], raw: Object) -> None:
        """Forgets a child; of a kind that keeps deleted ones it is left for the next pass in its last state."""
        key, uid = (raw["metadata"]["namespace"], kind.owner(raw)), raw["metadata"]["uid"]
        self._touch(uid)
        if kind.keeps_deleted:
            self._put_child(kind, raw, live=False, wake=False)
        self._delete(kind, key, uid)

    def drop_child(self, kind: ChildKind[Any], key: Key, uid: str) -> None:
        """Forgets a child that an answer of the API server showed to be gone."""
        self._touch(uid)
        entry = self._entries.get(key)
        if entry and uid in entry.of(kind):
            self._drop(kind, key, entry, uid)

    def seen(self, key: Key, children: Iterable[object]) -> None:
        """After a pass over these children: drops the deleted ones of them.

        One whose last state came while the pass wrote is kept for the next pass.
        """
        entry = self._entries.get(key)
        if entry is None or not entry.gone:
            return
        looked_at = {id(child) for child in children}
        for kind in self._kinds:
            for uid, held in list(entry.of(kind).items()):
                if uid in entry.gone and id(held.value) in looked_at:
                    self._drop(kind, key, entry, uid)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While lists are read. What is told of an object in this block is as new as any list, and stays."""
        self._touched = set()
        try:
            yield
        finally:
            self._touched = None

    def uids(self) -> set[str]:
        """The UIDs of everything that is kept."""
        kept = {held.uid for entry in self._entries.values() for held in entry.held()}
        return kept | {uid for uid, _ in self._settled.values()}

    def sweep(self, known: set[str], listed: set[str]) -> None:
        """Forgets what was ``known`` before lists were read and is not in them: some DELETED events never come."""
        missing = known - listed
        if not missing:
            return
        for key, (uid, _) in list(self._settled.items()):
            if uid in missing:
                self._forget(key, uid)
        for key, entry in list(self._entries.items()):
            for kind in self._kinds:
                for uid in missing.intersection(entry.of(kind)):
                    self._delete(kind, key, uid)
            if entry.owner and entry.owner.uid in missing:
                self._forget(key, entry.owner.uid)

    def _put(self, raw: Object, live: bool, wake: bool) -> None:
        meta = raw["metadata"]
        key, uid, version = (meta["namespace"], meta["name"]), meta["uid"], meta.get("resourceVersion", "")
        entry = self._entries.get(key)
        held = entry.owner if entry else None
        known = (held.uid, held.version) if held else None if entry else self._settled.get(key)
        if not _is_news(uid, version, known, live):
            return
        before = held.value if held and held.uid == uid else None
        value = self._kind.parse(raw, before)
        self._settled.pop(key, None)
        entry = self._entries.setdefault(key, _Entry())
        entry.owner = _Held(uid, version, value, places(self._kind.indices, value))
        self._move(key, held, entry.owner)
        if not self._shrink(key, entry) and wake and (before is None or self._kind.news(before, value)):
            self._wake(key)

    def _put_child(self, kind: ChildKind[Any], raw: Object, live: bool, wake: bool) -> None:
        meta = raw["metadata"]
        key, uid, version = (meta["namespace"], kind.owner(raw)), meta["uid"], meta.get("resourceVersion", "")
        entry = self._entries.get(key)
        held = entry.of(kind).get(uid) if entry else None
        if not _is_news(uid, version, (held.uid, held.version) if held else None, live):
            return
        value = kind.parse(raw)
        entry = self._entries.setdefault(key, _Entry())
        now = _Held(uid, version, value, places(kind.indices, value))
        entry.children.setdefault(kind, {})[uid] = now
        self._move(key, held, now)
        if not self._shrink(key, entry) and wake and (held is None or not kind.same(held.value, value)):
            self._wake(key)

    def _forget(self, key: Key, uid: Uid) -> None:
        if self._settled.get(key, ("", ""))[0] == uid:
            del self._settled[key]
        entry = self._entries.get(key)
        if entry is None or entry.owner is None or entry.owner.uid != uid:
            return
        held, entry.owner = entry.owner, None
        for kind in self._kinds:
            for child in entry.gone.intersection(entry.of(kind)):
                self._drop(kind, key, entry, child)
        self._discard_if_empty(key, entry)
        self._move(key, held, None)

    def _delete(self, kind: ChildKind[Any], key: Key, uid: Uid) -> None:
        entry = self._entries.get(key)
        if entry is None or uid not in entry.of(kind):
            return
        if entry.owner is None:
            self._drop(kind, key, entry, uid)
        elif not kind.keeps_deleted:
            self._drop(kind, key, entry, uid)
            self._wake(key)
        else:
            held = entry.of(kind)[uid]
            entry.gone.add(uid)
            entry.of(kind)[uid] = now = _Held(uid, held.version, held.value, ())
            self._move(key, held, now)
            if not self._shrink(key, entry):
                self._wake(key)

    def _drop(self, kind: ChildKind[Any], key: Key, entry: _Entry, uid: Uid) -> None:
        held = entry.of(kind).pop(uid)
        entry.gone.discard(uid)
        self._move(key, held, None)
        self._shrink(key, entry)
        self._discard_if_empty(key, entry)

    def _shrink(self, key: Key, entry: _Entry) -> bool:
        """Reduces a settled owner whose children have all ended to a record. Says whether it has."""
        settled = self._kind.settled(entry.owner.value) if entry.owner else key in self._settled
        if not settled or entry.lives():
            return False
        self._entries.pop(key, None)
        if entry.owner:
            self._settled[key] = entry.owner.uid, entry.owner.version
        for held in entry.held():
            self._move(key, held, None)
        return True

    def _discard_if_empty(self, key: Key, entry: _Entry) -> None:
        if self._entries.get(key) is entry and not entry.held():
            del self._entries[key]

    def _move(self, key: Key, before: _Held | None, after: _Held | None) -> None:
        """Moves an object in the indices, and wakes whoever stands where it left: that may be what they wait for."""
        was, stands = before.places if before else (), after.places if after else ()
        if before:
            self._index.remove(key, before.uid, was)
        if after:
            self._index.add(key, after.uid, stands)
        for place in was:
            if place not in stands:
                for other, _ in self._index.find(place):
                    if other != key:
                        self._wake(other)

    def _touch(self, uid: Uid) -> None:
        if self._touched is not None:
            self._touched.add(uid)


def _is_news(uid: Uid, version: str, known: tuple[Uid, str] | None, live: bool) -> bool:
    """Whether an object is to be read. The echo of a write whose answer is kept is not."""
    if known is None:
        return True
    if live:
        return (uid, version) != known
    # Versions of one kind compare as numbers (KEP-5504), also those of an object and of its later namesake.
    before = known[1]
    return int(version) > int(before) if version.isdigit() and before.isdigit() else version != before
