"""What has become of a job's children, stage by stage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from finetune_api.names import JOB_UID_LABEL, STAGE_LABEL
from finetune_api.stages import STAGES, Stage
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.workload.objects import Job, Pod
from finetune_operator.workload.state import WorkloadState, state


@dataclass(frozen=True)
class Observed:
    """The state of each stage that has a Job or pods, by the stage's name."""

    stages: Mapping[str, WorkloadState] = field(default_factory=dict)

    def stage(self, stage: Stage) -> WorkloadState:
        """One stage."""
        return self.stages.get(stage.name, WorkloadState())


def observe(job: JobObject, jobs: Iterable[Job], pods: Iterable[Pod]) -> Observed:
    """Sorts the children that carry the job's label into stages.

    A Job counts when this object (by UID) controls it. A pod counts when such a Job controls it, now or by the record
    in status, and carries this object's UID.
    """
    owned = [found for found in jobs if found.metadata.controller and found.metadata.controller.uid == job.metadata.uid]
    everything = sorted(pods, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name))
    return Observed({stage.name: _stage(job, stage, owned, everything) for stage in STAGES})


def _stage(job: JobObject, stage: Stage, owned: list[Job], pods: list[Pod]) -> WorkloadState:
    # While one is being deleted, its successor may be there already.
    ours = [one for one in owned if one.metadata.labels.get(STAGE_LABEL) == stage.command]
    current = max(ours, key=lambda one: one.metadata.deletion_timestamp is None, default=None)
    uids = {one.metadata.uid for one in ours} | {job.status.stage_status(stage.name).job_uid}
    uids |= {attempt.job_uid for attempt in job.status.attempts if attempt.stage == stage.name}
    attempts = [pod for pod in pods if _is_attempt(pod, job, stage, uids)]
    return state(current, attempts, lambda result: job.accepts(stage, result))


def _is_attempt(pod: Pod, job: JobObject, stage: Stage, job_uids: set[str | None]) -> bool:
    labels, controller = pod.metadata.labels, pod.metadata.controller
    same_object = labels.get(JOB_UID_LABEL) == job.metadata.uid
    return (
        same_object
        and labels.get(STAGE_LABEL) == stage.command
        and controller is not None
        and controller.uid in job_uids
    )
