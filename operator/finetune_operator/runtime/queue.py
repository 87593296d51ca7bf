"""A queue of keys: each at most once, never two at a time for one key, with back-off and timed revisits."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0


class Schedule(Generic[K]):
    """When each key is due. Pure: ``now`` is an argument, in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []  # may hold outdated entries; _due is what counts
        self._order = itertools.count()
        self._taken: set[K] = set()
        self._failures: dict[K, int] = {}

    def add(self, key: K, at: float) -> None:
        """Makes a key due at a time; the earliest of several wins."""
        if at < self._due.get(key, math.inf):
            self._due[key] = at
            self._push(key)

    def take(self, now: float) -> K | None:
        """The key that has been due longest and is not in work, now in work."""
        at = self.wake_at()
        if at is None or at > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._taken.add(key)
        return key

    def done(self, key: K) -> None:
        """Ends the work on a key that went well."""
        self._release(key)
        self._failures.pop(key, None)

    def failed(self, key: K, now: float) -> float:
        """Ends the work on a key that failed and makes it due again. Returns the delay in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        # No float holds 2**1024, which a key comes to in four days of failing.
        delay = min(FIRST_DELAY * 2.0 ** min(count, 20), LONGEST_DELAY)
        self._release(key)
        self.add(key, now + delay)
        return delay

    def wake_at(self) -> float | None:
        """When the next key that is not in work becomes due."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) == at and key not in self._taken:
                return at
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._due.keys() | self._taken)

    def _push(self, key: K) -> None:
        if key not in self._taken:
            heapq.heappush(self._heap, (self._due[key], next(self._order), key))

    def _release(self, key: K) -> None:
        self._taken.discard(key)
        if key in self._due:
            self._push(key)


class Queue(Generic[K]):
    """A Schedule that workers can wait on. All but take() are plain calls, so that a watch need not wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._schedule: Schedule[K] = Schedule()
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()  # of workers with nothing to do

    def __len__(self) -> int:
        return len(self._schedule)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Makes a key due in ``delay`` seconds, or earlier where it already is."""
        self._schedule.add(key, self._clock() + delay)
        self._wake_one()

    def done(self, key: K, revisit: float | None = None) -> None:
        """Ends the work on a key, to be taken again in ``revisit`` seconds if that is given."""
        self._schedule.done(key)
        if revisit is not None:
            self._schedule.add(key, self._clock() + revisit)
        self._wake_one()

    def failed(self, key: K) -> float:
        """Ends the work on a key that failed; it comes back later and later. Returns the delay in seconds."""
        delay = self._schedule.failed(key, self._clock())
        self._wake_one()
        return delay

    async def take(self) -> K:
        """Waits for a key that is due."""
        while (key := self._schedule.take(self._clock())) is None:
            await self._wait()
        return key

    async def _wait(self) -> None:
        wake = self._schedule.wake_at()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(None if wake is None else max(0.0, wake - self._clock())):
                await future
        except TimeoutError:
            return
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _wake_one(self) -> None:
        if self._schedule.wake_at() is None:
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():  # a worker that timed out or was cancelled has not come to leave yet
                future.set_result(None)
                return
