"""Writes reports to status, within the rate that the API server is asked to bear."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from pydantic import ValidationError

from finetune_operator.gateway.decision import Decision, Report, decide, json_patch
from finetune_operator.gateway.jobs import JobStatuses
from finetune_operator.gateway.limits import TokenBucket
from finetune_operator.gateway.store import ProgressStore
from finetune_operator.runtime.client import API_ERRORS, describe

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
# A slow API server holds up so many writes at a time.
WORKERS = 16
# Someone else wrote between read and patch this often: leave it to the next turn.
ATTEMPTS = 3


class Flusher:
    """Moves reports from the store to the API server."""

    def __init__(
        self,
        store: ProgressStore,
        jobs: JobStatuses,
        bucket: TokenBucket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._bucket = bucket
        self._clock = clock
        self._writes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Flushes until cancelled."""
        while True:
            self.start_due()
            await asyncio.sleep(TICK_SECONDS)

    def start_due(self) -> None:
        """Starts the writes that are due and that the rate allows, without waiting for them."""
        now = self._clock()
        free = min(WORKERS - len(self._writes), self._bucket.available(now))
        for report in self._store.take(free, now):
            self._bucket.take(now)
            task = asyncio.create_task(self._write(report))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def drain(self) -> None:
        """Writes what is left, still within the rate. The caller sets the time limit."""
        self._store.hurry(self._clock())
        while self._writes or self._store.has_due(self._clock()):
            self.start_due()
            await asyncio.sleep(TICK_SECONDS)

    async def _write(self, report: Report) -> None:
        decision = Decision.WAIT
        try:
            decision = await self._flush(report)
        except API_ERRORS as error:
            log.warning("%s: progress not written, will try again: %s", report.reporter.job, describe(error))
        except ValidationError as error:
            decision = Decision.DROP
            log.error("%s: status can't be read, progress dropped: %s", report.reporter.job, describe(error))
        finally:
            self._store.settle(report, decision, self._clock())

    async def _flush(self, report: Report) -> Decision:
        """Writes a report if it may be written. A failed test means that the object changed: read and decide again."""
        job = report.reporter.job
        for _ in range(ATTEMPTS):
            current = await self._jobs.read(job)
            decision = decide(current, report)
            if current is None or decision is not Decision.WRITE:
                return decision
            if await self._jobs.patch(job, json_patch(current, report)):
                return decision
        log.warning("%s: progress of step %d refused %d times, dropped", job, report.progress.step, ATTEMPTS)
        return Decision.DROP
