"""The gateway's process: ``python -m finetune_operator gateway``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from finetune_operator.gateway.auth import Authenticator
from finetune_operator.gateway.connections import Bounds, Door, listening
from finetune_operator.gateway.flusher import Flusher
from finetune_operator.gateway.jobs import JobStatuses
from finetune_operator.gateway.keys import SigningKeys
from finetune_operator.gateway.limits import Rate, SubjectLimits, TokenBucket
from finetune_operator.gateway.pods import Reporters
from finetune_operator.gateway.secret import CertificateStore, MissingObjectError
from finetune_operator.gateway.server import PushEndpoint, health_application
from finetune_operator.gateway.settings import Settings, read_settings
from finetune_operator.gateway.store import ProgressStore, Schedule
from finetune_operator.gateway.tls import ServingContext
from finetune_operator.runtime.client import API_ERRORS, connect, describe

log = logging.getLogger(__name__)

# Less than the 30 seconds that Kubernetes gives a pod to end.
DRAIN_SECONDS = 10.0
# A pod pushes once at its start and once at its end, besides one push every few seconds.
PUSH_BURST = 10


def main() -> None:
    """Serves until SIGTERM. Exits 1, with one line, when it can't start."""
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"), format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(read_settings(os.environ)))
    except (ValueError, MissingObjectError, ConfigException) as error:
        sys.exit(f"gateway: {error}")
    except API_ERRORS as error:
        sys.exit(f"gateway: {describe(error)}")


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then writes what is left."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await connect() as api:
        certificates = CertificateStore(api, settings.namespace)
        tls = ServingContext(await certificates.ensure(settings.hosts, datetime.now(UTC)))
        store = ProgressStore(Schedule(settings.flush_seconds, settings.writes_per_second), settings.max_jobs)
        flusher = _flusher(settings, store, api)
        applications = _endpoint(settings, store, api).application(), health_application(lambda: not stop.is_set())
        async with _listening(*applications, settings, tls) as doors:
            log.info("Serving on port %d as %s", settings.port, ", ".join(settings.hosts))
            services = flusher.run(), _renew(certificates, tls, settings), *(door.accept() for door in doors)
            await _until(stop, *services)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await flusher.drain()


async def _until(stop: asyncio.Event, *services: Coroutine[Any, Any, None]) -> None:
    """Runs endless services until ``stop``. One that fails ends the process: the kubelet starts a fresh one."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service) for service in services]
        await stop.wait()
        for task in tasks:
            task.cancel()


def _flusher(settings: Settings, store: ProgressStore, api: ApiClient) -> Flusher:
    rate = Rate(settings.writes_per_second, max(1, int(settings.writes_per_second)))
    return Flusher(store, JobStatuses(api), TokenBucket(rate, time.monotonic()))


def _endpoint(settings: Settings, store: ProgressStore, api: ApiClient) -> PushEndpoint:
    limits = SubjectLimits(Rate(settings.pushes_per_second, PUSH_BURST), settings.max_jobs)
    authenticator = Authenticator(SigningKeys(api), Reporters(api, settings.max_jobs), limits)
    return PushEndpoint(authenticator, store)


@contextlib.asynccontextmanager
async def _listening(
    push: web.Application, health: web.Application, settings: Settings, tls: ServingContext
) -> AsyncIterator[tuple[Door, Door]]:
    """Both ports, open for as long as the block runs."""
    bounds = Bounds(settings.max_connections, settings.head_seconds)
    async with (
        listening(push, settings.address, settings.port, bounds, tls.context) as pushes,
        listening(health, settings.address, settings.health_port, bounds) as probes,
    ):
        yield pushes, probes


async def _renew(certificates: CertificateStore, tls: ServingContext, settings: Settings) -> None:
    """Renews the certificate when its time has come, and loads what another replica renewed."""
    while True:
        await asyncio.sleep(settings.renewal_seconds)
        try:
            tls.load(await certificates.ensure(settings.hosts, datetime.now(UTC)))
        except (*API_ERRORS, RuntimeError) as error:
            log.warning("The certificate could not be checked, will try again: %s", describe(error))
