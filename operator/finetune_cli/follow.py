"""Follows one job through lost connections and expired watches, as a stream of updates."""

from __future__ import annotations

import difflib
import http
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import urllib3
from kubernetes.client import ApiException

from finetune_api.job import FineTuneJob
from finetune_api.progress import format_duration
from finetune_cli.client import JobClient
from finetune_cli.errors import CliError, explain, is_transient

WATCH_SECONDS = 60.0  # then list again, so that nothing is missed for longer
MISSING_SECONDS = 3.0  # how long a job that is not there is awaited without a time limit: it may just be applied
NAMES_SHOWN = 10
AWAY_SECONDS = 300.0  # how long the API server may be away
RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Clock:
    """Monotonic seconds, and a way to let them pass."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(frozen=True)
class Seen:
    """The job as it stands."""

    job: FineTuneJob


@dataclass(frozen=True)
class Waiting:
    """Nothing to see for now, and why."""

    message: str


Update = Seen | Waiting


class Follower:
    """Follows the job of one name. Each pass lists, then watches from there, so a lost event costs one pass at most."""

    def __init__(self, jobs: JobClient, name: str, timeout: float | None, clock: Clock) -> None:
        self._jobs, self._name, self._timeout, self._clock = jobs, name, timeout, clock
        self._start = clock.now()
        self._seen: FineTuneJob | None = None
        self._answered = False
        self._away_since: float | None = None

    def updates(self) -> Iterator[Update]:
        """Yields each state of the job until the caller has seen enough.

        Raises CliError when the job is deleted or never comes, when the time is over, and when the API server refuses
        or stays away.
        """
        while True:
            try:
                yield from self._pass()
            except (ApiException, urllib3.exceptions.HTTPError) as error:
                yield from self._recover(error)
            self._check_time()

    def _pass(self) -> Iterator[Update]:
        found = self._jobs.list(self._name)
        self._answered, self._away_since = True, None
        if not found.jobs:
            self._check_not_deleted()
            yield Waiting(self._missing())
        for job in found.jobs:
            yield self._see(job)
        seconds = max(1, math.ceil(min(WATCH_SECONDS, self._remaining())))
        for event in self._jobs.watch(self._name, found.resource_version, seconds):
            if event.deleted:
                self._check_not_deleted()
            else:
                yield self._see(event.job)

    def _see(self, job: FineTuneJob) -> Seen:
        if self._seen and self._seen.metadata.uid != job.metadata.uid:
            raise CliError(f"FineTuneJob {self._where} was deleted and created again; run the command once more")
        self._seen = job
        return Seen(job)

    def _recover(self, error: ApiException | urllib3.exceptions.HTTPError) -> Iterator[Update]:
        if isinstance(error, ApiException) and error.status == http.HTTPStatus.GONE:
            return  # the next pass lists anew
        reached = self._answered or isinstance(error, ApiException)  # the kubeconfig's address is right
        if not reached or not is_transient(error) or self._away_too_long():
            raise CliError(explain(error, self._jobs.server)) from error
        yield Waiting(f"{explain(error, self._jobs.server)}; trying again")
        self._clock.sleep(RETRY_SECONDS)

    def _away_too_long(self) -> bool:
        self._away_since = self._clock.now() if self._away_since is None else self._away_since
        return self._clock.now() - self._away_since >= AWAY_SECONDS

    def _remaining(self) -> float:
        limit = self._timeout
        if limit is None:
            limit = math.inf if self._seen else MISSING_SECONDS
        return self._start + limit - self._clock.now()

    def _check_time(self) -> None:
        if self._remaining() > 0:
            return
        if self._seen is None:
            raise CliError(self._missing())
        stage = self._seen.status.stage or "Pending"
        spent = format_duration(int(self._clock.now() - self._start))
        raise CliError(f"FineTuneJob {self._where} is still {stage} after {spent}; it goes on without being watched")

    def _check_not_deleted(self) -> None:
        if self._seen:
            raise CliError(f"FineTuneJob {self._where} was deleted; its artefacts, if any, are kept")

    def _missing(self) -> str:
        others = self._jobs.names()
        there = f"there are: {_listed(others, self._name)}" if others else "there is none; -n chooses another namespace"
        return f"no FineTuneJob {self._name!r} in namespace {self._jobs.namespace!r} ({there})"

    @property
    def _where(self) -> str:
        return f"{self._jobs.namespace}/{self._name}"


def _listed(names: list[str], wanted: str) -> str:
    """The names, those first that look like the wanted one."""
    alike = difflib.get_close_matches(wanted, names, n=NAMES_SHOWN)
    ordered = [*alike, *(name for name in names if name not in alike)]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(ordered[:NAMES_SHOWN]) + more
