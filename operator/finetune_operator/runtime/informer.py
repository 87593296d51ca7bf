"""Keeps a store up to date: filled from lists, moved on by watch events, swept against lists."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import Object
from finetune_operator.runtime.store import ChildKind, OwnerKind, Store

log = logging.getLogger(__name__)


class Informer:
    """One store with the kinds that it holds. ``namespaces`` are those that it looks at; empty: all."""

    def __init__(
        self,
        store: Store[Any],
        owner: OwnerKind[Any],
        children: Iterable[ChildKind[Any]] = (),
        namespaces: tuple[str, ...] = (),
    ) -> None:
        self.store = store
        self.owner = owner
        self.children = tuple(children)
        self.namespaces = namespaces

    async def fill(self, kube: Kube) -> None:
        """Brings the store to what the API server lists, page by page.

        Raises one of client.API_ERRORS when a list can't be read, and then forgets nothing.
        """
        known = self.store.uids()
        listed: set[str] = set()
        with self.store.filling():
            for namespace in self.namespaces or (None,):
                for kind in (None, *self.children):
                    resource, selector = (kind.resource, kind.selector) if kind else (self.owner.resource, "")
                    async for page in kube.pages(resource, namespace, labels=selector):
                        listed.update(raw["metadata"]["uid"] for raw in page)
                        for raw in page:
                            self._take(raw, partial(self.store.put_listed, kind=kind))
        self.store.sweep(known, listed)

    def owner_event(self, event: str | None, raw: Object) -> None:
        """An event of the owners' watch; None stands for an object of the list that a watch starts with."""
        if event == "DELETED":
            self._take(raw, self.store.remove)
        elif event is None:
            self._take(raw, self.store.put_listed)
        else:
            self._take(raw, self.store.put)

    def child_event(self, kind: ChildKind[Any], event: str | None, raw: Object) -> None:
        """An event of a children's watch."""
        if not kind.owner(raw):  # another controller's, where several watch one kind
            return
        if event == "DELETED":
            self._take(raw, partial(self.store.remove_child, kind))
        elif event is None:
            self._take(raw, partial(self.store.put_listed, kind=kind))
        else:
            self._take(raw, partial(self.store.put_child, kind))

    def _take(self, raw: Object, take: Callable[[Object], None]) -> None:
        """One object that can't be read must not keep the others away."""
        try:
            take(raw)
        except ValueError:
            meta = raw.get("metadata", {})
            log.exception("%s %s/%s can't be read", self.owner.resource, meta.get("namespace"), meta.get("name"))
