"""The operator's process: kopf watches and answers liveness probes, workers reconcile."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import UTC, datetime
from typing import Any

import kopf

from finetune_operator.finetunejob.job_object import Key
from finetune_operator.finetunejob.reconcile import Reconciler
from finetune_operator.runtime.client import API_ERRORS, connect, describe
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Cache
from finetune_operator.runtime.watches import fill, register, settings_of, sweep_forever
from finetune_operator.settings import Settings

log = logging.getLogger(__name__)
WORKERS = 8
START_DELAYS = (1, 2, 4, 8, 15, 15, 15)


def main() -> None:
    """Runs until SIGTERM. Raises SystemExit with one line when the environment is incomplete."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("kopf", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        raise SystemExit(f"finetune-operator: {error}") from error
    asyncio.run(run(settings))


async def run(settings: Settings) -> None:
    """The operator, until kopf ends or a task of ours fails."""
    client = await connect()
    kube = Kube(client, settings.instance)
    cache = Cache()
    queue: Queue[Key] = Queue(time.monotonic)
    reconciler = Reconciler(kube, cache, settings, lambda: datetime.now(UTC))
    try:
        # Workers start from a whole picture: with half of one, a running Job would look like one without pods.
        await _fill_at_start(kube, cache, queue, settings)
        log.info("starts with %d jobs", len(cache))
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(sweep_forever(kube, cache, queue, settings))]
            background += [tasks.create_task(work(queue, reconciler)) for _ in range(WORKERS)]
            await _watch(cache, queue, settings)
            for task in background:
                task.cancel()
    finally:
        await client.close()


async def work(queue: Queue[Key], reconciler: Reconciler) -> None:
    """Takes keys for ever. A pass that fails is tried again later and later."""
    while True:
        key = await queue.take()
        try:
            revisit = await reconciler.reconcile(key)
        except Exception as error:
            delay = await queue.failed(key)
            _tell(key, error, delay)
        else:
            await queue.done(key, revisit)


async def _fill_at_start(kube: Kube, cache: Cache, queue: Queue[Key], settings: Settings) -> None:
    """Waits a minute for the API server and the CRD, which may be applied in the same breath as the operator."""
    for delay in START_DELAYS:
        try:
            return await fill(kube, cache, queue, settings)
        except API_ERRORS as error:
            log.warning("can't list jobs yet (is the CRD installed?), again in %d s: %s", delay, describe(error))
            await asyncio.sleep(delay)
    return await fill(kube, cache, queue, settings)


async def _watch(cache: Cache, queue: Queue[Key], settings: Settings) -> None:
    registry = kopf.OperatorRegistry()
    kopf_settings = kopf.OperatorSettings()
    register(registry, cache, queue)
    settings_of(kopf_settings)
    kopf.on.login(registry=registry)(_login)
    await kopf.operator(
        registry=registry,
        settings=kopf_settings,
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        liveness_endpoint=f"http://{_host(settings.address)}:{settings.health_port}/healthz",
    )


def _host(address: str) -> str:
    """An address as a URL has it."""
    return f"[{address}]" if ":" in address else address


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """As our own client does, and without importing the synchronous one."""
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        return kopf.login_with_service_account(**kwargs)
    return kopf.login_with_kubeconfig(**kwargs)


def _tell(key: Key, error: Exception, delay: float) -> None:
    if isinstance(error, API_ERRORS):
        log.warning("%s/%s: again in %.1f s: %s", *key, delay, describe(error))
    else:
        log.error("%s/%s: again in %.1f s", *key, delay, exc_info=error)
