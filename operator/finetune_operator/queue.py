"""A queue of keys: each at most once, never two at a time for one key, with back-off and timed revisits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_DELAY = 0.5
LONGEST_DELAY = 300.0


class Schedule(Generic[K]):
    """When each key is due. Pure: ``now`` is an argument, in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._taken: set[K] = set()
        self._failures: dict[K, int] = {}

    def add(self, key: K, at: float) -> None:
        """Makes a key due at a time; the earliest of several wins."""
        self._due[key] = min(at, self._due.get(key, at))

    def take(self, now: float) -> K | None:
        """The key that has been due longest and is not in work, now in work."""
        ready = [key for key, at in self._due.items() if at <= now and key not in self._taken]
        if not ready:
            return None
        key = min(ready, key=self._due.__getitem__)
        del self._due[key]
        self._taken.add(key)
        return key

    def done(self, key: K) -> None:
        """Ends the work on a key that went well."""
        self._taken.discard(key)
        self._failures.pop(key, None)

    def failed(self, key: K, now: float) -> float:
        """Ends the work on a key that failed and makes it due again. Returns the delay in seconds."""
        self._taken.discard(key)
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(FIRST_DELAY * 2.0**count, LONGEST_DELAY)
        self.add(key, now + delay)
        return delay

    def wake_at(self) -> float | None:
        """When the next key that is not in work becomes due."""
        return min((at for key, at in self._due.items() if key not in self._taken), default=None)

    def __len__(self) -> int:
        return len(self._due) + len(self._taken)


class Queue(Generic[K]):
    """A Schedule that workers can wait on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._schedule: Schedule[K] = Schedule()
        self._clock = clock
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._schedule)

    async def add(self, key: K, delay: float = 0.0) -> None:
        """Makes a key due in ``delay`` seconds, or earlier where it already is."""
        async with self._changed:
            self._schedule.add(key, self._clock() + delay)
            self._changed.notify()

    async def take(self) -> K:
        """Waits for a key that is due."""
        async with self._changed:
            while (key := self._schedule.take(self._clock())) is None:
                await self._wait()
            return key

    async def done(self, key: K, revisit: float | None = None) -> None:
        """Ends the work on a key, to be taken again in ``revisit`` seconds if that is given."""
        async with self._changed:
            self._schedule.done(key)
            if revisit is not None:
                self._schedule.add(key, self._clock() + revisit)
            self._changed.notify()

    async def failed(self, key: K) -> float:
        """Ends the work on a key that failed; it comes back later and later. Returns the delay in seconds."""
        async with self._changed:
            delay = self._schedule.failed(key, self._clock())
            self._changed.notify()
            return delay

    async def _wait(self) -> None:
        wake = self._schedule.wake_at()
        timeout = None if wake is None else max(0.0, wake - self._clock())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
