"""Brings the report page of a job from its claim: creates a reader pod, waits for it, reads its log, deletes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import urllib3
from kubernetes.client import ApiException

from finetune_api.job import FineTuneJob
from finetune_api.names import child_name
from finetune_api.stages import EVALUATE
from finetune_api.uris import ClaimPath, parse_claim
from finetune_cli.client import JobClient, PodClient
from finetune_cli.errors import CliError, explain, is_transient
from finetune_cli.follow import Clock
from finetune_cli.reader_pod import CONTAINER, has_ended, hindrance, is_hopeless, reader_pod, surroundings_of, unpack

WAIT_SECONDS = 240  # a claim may have to be attached to a node first
_POLL_SECONDS = 0.5
_MAX_NAME = 40


def fetch_page(jobs: JobClient, name: str, token: str, clock: Clock) -> bytes:
    """The page of a job's evaluation. ``token`` makes the pod's name one that nobody else has.

    Raises CliError where there is no page, or the cluster doesn't give it.
    """
    with _explained(jobs.server):
        job = _job(jobs, name)
        file = _place(job)
        around = surroundings_of(job, jobs.pods.batch_job(child_name(name, EVALUATE.suffix)))
        pod = f"{name[:_MAX_NAME].rstrip('-.')}-report-{token}"
        with _deleted_afterwards(jobs.pods, pod):
            jobs.pods.create(reader_pod(pod, job, file, around))
            _wait(jobs.pods, pod, clock)
            return unpack(jobs.pods.log(pod, CONTAINER), str(file))


def write_page(page: bytes, file: Path) -> Path:
    """Saves the page. Raises CliError where it can't be written."""
    try:
        file.write_bytes(page)
    except OSError as error:
        raise CliError(f"can't write {file}: {error.strerror or error}; name another file with --output") from error
    return file


def _job(jobs: JobClient, name: str) -> FineTuneJob:
    found = jobs.list(name).jobs
    if not found:
        names = ", ".join(jobs.names()[:10]) or "none"
        raise CliError(f"there is no FineTuneJob {name!r} in namespace {jobs.namespace!r}; there are: {names}")
    return found[0]


def _place(job: FineTuneJob) -> ClaimPath:
    name, evaluation = job.metadata.name, job.status.evaluation
    if evaluation is None:
        raise CliError(f"{name} has no evaluation yet: kubectl finetune watch {name} shows how far it is")
    if evaluation.page_uri is None:
        where = f"; report.json is {evaluation.report_uri}" if evaluation.report_uri else ""
        raise CliError(f"the evaluation of {name} left no page, as those of earlier trainers did not{where}")
    try:
        return parse_claim(evaluation.page_uri)
    except ValueError as error:
        raise CliError(f"{name}: status.evaluation.pageURI: {error}") from error


@contextmanager
def _deleted_afterwards(pods: PodClient, name: str) -> Iterator[None]:
    """Deletes a pod however the block ends, also one whose creation was not seen to succeed."""
    try:
        yield
    finally:
        try:
            pods.delete(name)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise CliError(
                f"the pod {name} could not be deleted ({type(error).__name__}); the cluster ends it within minutes: "
                f"kubectl -n {pods.namespace} delete pod {name}"
            ) from error


def _wait(pods: PodClient, name: str, clock: Clock) -> None:
    """Returns when the pod has printed all. Raises CliError when it doesn't in time, with what holds it up."""
    deadline, told = clock.now() + WAIT_SECONDS, ""
    while clock.now() < deadline:
        try:
            pod = pods.get(name)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND:
                raise CliError(f"the pod {name} was deleted before it had read the page: try again") from error
            if not is_transient(error):
                raise
        else:
            if has_ended(pod):
                return
            told = hindrance(pod)
            if is_hopeless(told):
                raise CliError(f"the pod {name} can't read the page: {told}")
        clock.sleep(_POLL_SECONDS)
    raise CliError(f"the pod {name} did not read the page within {WAIT_SECONDS} s{': ' + told if told else ''}")


@contextmanager
def _explained(server: str) -> Iterator[None]:
    try:
        yield
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        raise CliError(explain(error, server)) from error
