"""One controller: a store of its kind, a queue of keys, and workers that bring one object at a time on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

from finetune_operator.runtime.client import API_ERRORS, describe
from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import Key
from finetune_operator.runtime.store import ChildKind, OwnerKind, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

# Brings one object on. Returns in how many seconds to come back though nothing changes; None: not before a change.
Reconcile = Callable[[Key], Awaitable[float | None]]
WORKERS = 32  # of each controller, in one process
# What a list tells is queued at this rate: an event that a watch brings meanwhile does not wait behind all of it.
LISTED_PER_SECOND = 500.0


class Controller(Generic[T]):
    """Takes a kind, its children's kinds, and what makes the function that reconciles from the store."""

    def __init__(
        self,
        owner: OwnerKind[T],
        children: Iterable[ChildKind[Any]],
        reconciler: Callable[[Store[T]], Reconcile],
        *,
        namespaces: tuple[str, ...] = (),
        clock: Callable[[], float],
    ) -> None:
        self._queue: Queue[Key] = Queue(clock)
        self._listed: int | None = None  # keys that a list has queued; None while none is read
        children = tuple(children)
        self.store: Store[T] = Store(owner, children, self._wake)
        self.informer = Informer(self.store, owner, children, namespaces)
        self._reconcile = reconciler(self.store)

    async def fill(self, kube: Kube) -> None:
        """Lists everything and queues what is new or has changed."""
        self._listed = 0
        try:
            await self.informer.fill(kube)
        finally:
            self._listed = None

    async def work(self) -> None:
        """One worker: takes keys for ever. A pass that fails is tried again later and later."""
        while True:
            key = await self._queue.take()
            try:
                revisit = await self._reconcile(key)
            except Exception as error:
                _tell(key, error, self._queue.failed(key))
            else:
                self._queue.done(key, revisit)

    def _wake(self, key: Key) -> None:
        if self._listed is None:
            self._queue.add(key)
        else:
            self._queue.add(key, self._listed / LISTED_PER_SECOND)
            self._listed += 1


def _tell(key: Key, error: Exception, delay: float) -> None:
    if isinstance(error, API_ERRORS):
        log.warning("%s/%s: again in %.1f s: %s", *key, delay, describe(error))
    else:
        log.error("%s/%s: again in %.1f s", *key, delay, exc_info=error)
