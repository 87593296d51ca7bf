"""Whose turn it is when several jobs write to one output folder. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from finetune_operator.finetunejob.job_object import JobObject, read_job


def occupant(job: JobObject, started: bool, others: Iterable[tuple[dict[str, Any], bool]]) -> str:
    """The name of a job that comes first at this job's output folder; empty when there is none.

    ``others`` are the namespace's FineTuneJobs, each with whether a Job of it is there. Who has started comes first,
    then who is older: two jobs never wait for each other.
    """
    if job.spec is None:
        return ""
    mine = _rank(job, started)
    destination, digest = job.spec.output.destination, job.spec.sha256()
    for raw, has_job in others:
        # Reading an object takes a while, and most jobs write elsewhere.
        if raw.get("spec", {}).get("output", {}).get("destination") != destination:
            continue
        try:
            other = read_job(raw)
        except ValidationError:  # one that can't be read is never started
            continue
        same = other.spec is not None and other.spec.sha256() == digest
        if same and not other.finished and _rank(other, has_job) < mine:
            return other.metadata.name
    return ""


def _rank(job: JobObject, has_job: bool) -> tuple[bool, str, str]:
    started = has_job or bool(job.status.attempts)
    return not started, str(job.metadata.creation_timestamp), job.metadata.uid
