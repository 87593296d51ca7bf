"""Watch events in, keys out: kopf's handlers fill the cache and the queue, and a sweep mends what they missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
from pydantic import ValidationError

from finetune_api.names import GROUP, JOB_LABEL, PLURAL, VERSION
from finetune_operator.finetunejob.job_object import Key
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Cache, News
from finetune_operator.settings import Settings

log = logging.getLogger(__name__)
SWEEP_SECONDS = 600.0

Put = Callable[[dict[str, Any]], News]
List = Callable[[str | None], Awaitable[list[dict[str, Any]]]]


def register(registry: kopf.OperatorRegistry, cache: Cache, queue: Queue[Key]) -> None:
    """Registers on.event handlers only: they leave no annotation and no finalizer on anybody's object."""

    def handler(put: Put, remove: Put) -> Any:
        async def handle(event: kopf.RawEvent, **_: Any) -> None:
            raw: dict[str, Any] = dict(event["object"])
            try:
                key, changed = remove(raw) if event["type"] == "DELETED" else put(raw)
            except ValidationError:
                log.exception("an object of a watch can't be read: %s", raw.get("metadata", {}).get("name"))
                return
            if changed:  # not the echo of a write of ours, whose answer is cached already
                await queue.add(key)

        return handle

    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="job")(handler(cache.put, cache.remove))
    kopf.on.event("batch", "v1", "jobs", registry=registry, id="child")(handler(cache.put_job, cache.remove_job))
    kopf.on.event("", "v1", "pods", registry=registry, id="pod")(handler(cache.put_pod, cache.remove_pod))


def settings_of(settings: kopf.OperatorSettings) -> None:
    """Timeouts, and label selectors at the server: without them every pod of the cluster would arrive."""
    settings.watching.label_selectors["batch", "v1", "jobs"] = JOB_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = JOB_LABEL
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 360
    settings.watching.connect_timeout = 15
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 0.2
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.scanning.disabled = True


async def fill(kube: Kube, cache: Cache, queue: Queue[Key], settings: Settings) -> None:
    """Brings the cache to what the API server lists, and queues every job: some DELETED events never come."""
    known = cache.uids()
    listed: set[str] = set()
    keys: set[Key] = set()
    kinds: list[tuple[List, Put]] = [
        (kube.list_jobs, cache.put),
        (kube.list_child_jobs, cache.put_job),
        (kube.list_child_pods, cache.put_pod),
    ]
    with cache.filling():
        for namespace in settings.watch_namespaces or (None,):
            for list_, put in kinds:
                raws = await list_(namespace)
                listed |= {raw["metadata"]["uid"] for raw in raws}
                keys |= {put(raw)[0] for raw in raws}
    keys |= cache.sweep(known, listed)
    for key in keys:
        await queue.add(key)


async def sweep_forever(kube: Kube, cache: Cache, queue: Queue[Key], settings: Settings) -> None:
    """Sweeps every ten minutes. A sweep that fails is logged; the next one follows."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await fill(kube, cache, queue, settings)
        except Exception:
            log.exception("sweep failed")
