"""kopf, cut down to what we need of it: watches that reconnect, and the liveness endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.resources import Resource
from finetune_operator.runtime.store import ChildKind


async def watch(informers: Iterable[Informer], liveness_endpoint: str | None = None) -> None:
    """Watches for informers of the same namespaces until cancelled, or until kopf ends; once a process.

    Only on.event handlers are registered: they leave no annotation and no finalizer on anybody's object.
    """
    informers = tuple(informers)
    namespaces = informers[0].namespaces
    registry = kopf.OperatorRegistry()
    settings = _settings()
    for number, informer in enumerate(informers):
        _register(registry, informer, number)
    for resource, selector in _selectors(informers).items():
        settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    kopf.on.login(registry=registry)(_login)
    await kopf.operator(
        registry=registry,
        settings=settings,
        memories=_NoMemories(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        liveness_endpoint=liveness_endpoint,
    )


def _register(registry: kopf.OperatorRegistry, informer: Informer, number: int) -> None:
    async def owner(event: kopf.RawEvent, **_: Any) -> None:
        informer.owner_event(event["type"], dict(event["object"]))

    def of(kind: ChildKind[Any]) -> Any:
        async def child(event: kopf.RawEvent, **_: Any) -> None:
            informer.child_event(kind, event["type"], dict(event["object"]))

        return child

    _on_event(registry, informer.owner.resource, f"{number}-owner")(owner)
    for kind in informer.children:
        _on_event(registry, kind.resource, f"{number}-{kind.resource}")(of(kind))


def _on_event(registry: kopf.OperatorRegistry, resource: Resource, name: str) -> Any:
    return kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=name)


def _selectors(informers: Iterable[Informer]) -> dict[Resource, str]:
    """Selectors at the server, without which every pod of the cluster would arrive.

    Where informers want different objects of one kind there is none: kopf has one watch a kind.
    """
    wanted: dict[Resource, set[str]] = {}
    for informer in informers:
        wanted.setdefault(informer.owner.resource, set()).add("")
        for kind in informer.children:
            wanted.setdefault(kind.resource, set()).add(kind.selector)
    return {resource: next(iter(some)) for resource, some in wanted.items() if len(some) == 1 and some != {""}}


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 360
    settings.watching.connect_timeout = 15
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 0.2
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    return settings


class _NoMemories(ResourceMemories):
    """Remembers nothing of an object. What kopf would keep is for handlers that we have none of, 16 KB an object."""

    async def recall(self, *args: Any, **kwargs: Any) -> ResourceMemory:
        return await super().recall(*args, **{**kwargs, "ephemeral": True})


class _NoDiffs(kopf.DiffBaseStorage):
    """Compares nothing. kopf would copy the whole object at each event for handlers that we have none of."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Stores nothing on objects."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """As our own client does, and without importing the synchronous one."""
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        return kopf.login_with_service_account(**kwargs)
    return kopf.login_with_kubeconfig(**kwargs)
