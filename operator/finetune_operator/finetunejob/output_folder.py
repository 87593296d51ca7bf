"""Whose turn it is when several jobs write to one run's folder. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from finetune_api.names import JOB_UID_LABEL, STAGE_LABEL
from finetune_api.stages import BY_COMMAND
from finetune_api.status import PENDING
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.workload.objects import Job, Pod


def occupant(
    job: JobObject,
    started: bool,
    others: Iterable[tuple[JobObject, bool]],
    pods: Iterable[Pod],
    jobs: Iterable[Job] = (),
) -> str:
    """Who holds this job's folder or comes first at it, as a sentence; empty when it is this job's turn.

    ``others`` are the unfinished FineTuneJobs of the folder, each with whether it has started; ``pods`` are those of
    the folder, whoever owned them: one may outlive its job on a node that does not answer. ``jobs`` are those that no
    FineTuneJob needs any more and that may start pods there until they are gone, too.
    Who has started comes first, then who is older: two jobs never wait for each other. One that something else holds up
    lets others pass.
    """
    mine = _rank(job, started)
    for other, has_started in others:
        if other.metadata.uid == job.metadata.uid or other.finished:
            continue
        rank = _rank(other, has_started)
        waits_here = not rank[0] or (_free_to_start(other) and not other.metadata.deletion_timestamp)
        if waits_here and rank < mine:
            return f"FineTuneJob {other.metadata.name} writes to the same folder; this job starts when it has ended"
    for pod in pods:
        if pod.live and _may_train(pod):
            node = f" on node {pod.spec.node_name}" if pod.spec.node_name else ""
            return (
                f"pod {pod.metadata.name}{node} of an earlier run, of FineTuneJob {pod.metadata.job}, may still write "
                "to the same folder; this job starts when it has ended"
            )
    for found in jobs:
        # What holds a child's own name is told of when that can't be created.
        if found.metadata.job != job.metadata.name and STAGE_LABEL in found.metadata.labels:
            return (
                f"Job {found.metadata.name} of FineTuneJob {found.metadata.job} may still start pods that write to the "
                "same folder; this job starts when it has ended"
            )
    return ""


def _may_train(pod: Pod) -> bool:
    """Whether this may be a trainer: any pod can carry a label or an annotation."""
    labels, controller = pod.metadata.labels, pod.metadata.controller
    by_job = controller is not None and (controller.api_version, controller.kind) == ("batch/v1", "Job")
    return by_job and JOB_UID_LABEL in labels and labels.get(STAGE_LABEL) in BY_COMMAND


def _rank(job: JobObject, started: bool) -> tuple[bool, str, str]:
    begun = started or bool(job.status.attempts) or any(one.job_uid for one in job.status.stages)
    return not begun, str(job.metadata.creation_timestamp), job.metadata.uid


def _free_to_start(job: JobObject) -> bool:
    verdict = job.status.condition("Succeeded")
    return verdict is None or verdict.reason == PENDING
