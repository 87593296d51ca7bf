"""Indices over what a store keeps: from a value to the objects that have it, without a look at any other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from finetune_operator.runtime.resources import Key

Place = tuple[str, Hashable]  # an index's name and a value in it
Uid = str


def places(indices: Mapping[str, Callable[[Any], Hashable | None]], value: Any) -> tuple[Place, ...]:
    """Where an object stands."""
    found = ((name, place(value)) for name, place in indices.items())
    return tuple((name, place) for name, place in found if place is not None)


class Index:
    """Which objects, by their owner's key and their own UID, stand where."""

    def __init__(self) -> None:
        self._places: dict[Place, dict[tuple[Key, Uid], None]] = {}

    def find(self, place: Place) -> Iterable[tuple[Key, Uid]]:
        """What stands at a place."""
        return self._places.get(place, {}).keys()

    def add(self, key: Key, uid: Uid, where: Iterable[Place]) -> None:
        """Puts an object to places."""
        for place in where:
            self._places.setdefault(place, {})[key, uid] = None

    def remove(self, key: Key, uid: Uid, where: Iterable[Place]) -> None:
        """Takes an object from places."""
        for place in where:
            found = self._places.get(place, {})
            found.pop((key, uid), None)
            if not found:
                self._places.pop(place, None)
