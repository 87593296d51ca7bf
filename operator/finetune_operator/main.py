"""The operator's process: which controllers run, and what they share."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from finetune_operator.finetunejob.controller import config_map_informer, finetunejob_controller
from finetune_operator.runtime.client import API_ERRORS, connect, describe
from finetune_operator.runtime.controller import WORKERS, Controller
from finetune_operator.runtime.events import Recorder
from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.watches import watch
from finetune_operator.settings import Settings

log = logging.getLogger(__name__)
COMPONENT = "finetune-operator"
START_DELAYS = (1, 2, 4, 8, 15, 15, 15)
SWEEP_SECONDS = 600.0
LIST_SECONDS = 5.0


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
    """The operator with a connection of its own."""
    asyncio.get_running_loop().set_exception_handler(_handle)
    client = await connect()
    try:
        await operate(Kube(client), settings)
    finally:
        await client.close()


async def operate(kube: Kube, settings: Settings) -> None:
    """All controllers, until kopf ends or a task of ours fails."""
    recorder = Recorder(kube, COMPONENT, settings.instance, lambda: datetime.now(UTC))
    config_maps = config_map_informer(settings)
    controllers = [finetunejob_controller(kube, recorder, config_maps.store, settings)]
    # Workers start from a whole picture: with half of one, a running Job would look like one without pods.
    await _fill_at_start(kube, config_maps, controllers)
    _calm_the_garbage_collector()
    log.info("starts with %s", ", ".join(f"{len(one.store)} {one.informer.owner.resource}" for one in controllers))
    await _until_the_first_ends(
        # At its end kopf waits for each task that began after it did: the others stand before it.
        _list_forever(kube, config_maps),
        _sweep_forever(kube, controllers),
        *(one.work() for one in controllers for _ in range(WORKERS)),
        watch([one.informer for one in controllers], f"http://{settings.host}:{settings.health_port}/healthz"),
    )


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As by default, but for what kopf's end leaves behind.

    Stopped between two events, it leaves its watches, generators within generators, to the loop. That closes all at a
    time, so that an outer one may find its inner one closing already.
    """
    if context.get("asyncgen") is not None and isinstance(context.get("exception"), RuntimeError):
        log.debug("%s", context["message"])
        return
    loop.default_exception_handler(context)


def _calm_the_garbage_collector() -> None:
    """Has it pass over what stays for good: by default a third of the time that a burst takes goes into its walks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _until_the_first_ends(*coroutines: Coroutine[None, None, None]) -> None:
    """Runs all; the first to end, well or not, ends the others."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _fill(kube: Kube, config_maps: Informer, controllers: list[Controller[Any]]) -> None:
    await config_maps.fill(kube)
    for controller in controllers:
        await controller.fill(kube)


async def _fill_at_start(kube: Kube, config_maps: Informer, controllers: list[Controller[Any]]) -> None:
    """Waits a minute for the API server and the CRD, which may be applied in the same breath as the operator."""
    for delay in START_DELAYS:
        try:
            return await _fill(kube, config_maps, controllers)
        except API_ERRORS as error:
            log.warning("can't list yet (are CRD and rights installed?), again in %d s: %s", delay, describe(error))
            await asyncio.sleep(delay)
    return await _fill(kube, config_maps, controllers)


async def _sweep_forever(kube: Kube, controllers: list[Controller[Any]]) -> None:
    """Lists again every ten minutes what watches may have missed. A sweep that fails is logged; the next follows."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for controller in controllers:
            try:
                await controller.fill(kube)
            except Exception:
                log.exception("sweep failed")


async def _list_forever(kube: Kube, config_maps: Informer) -> None:
    """Keeps few and small objects current without a watch: kopf watches one set of namespaces a process."""
    while True:
        await asyncio.sleep(LIST_SECONDS)
        try:
            await config_maps.fill(kube)
        except API_ERRORS as error:
            log.warning("can't list %s: %s", config_maps.owner.resource, describe(error))
