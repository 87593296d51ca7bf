"""What has become of a job's children: cached Jobs and Pods in, one small value out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from finetune_api.names import JOB_UID_LABEL, STAGE_LABEL
from finetune_api.results import Stage, StageResult
from finetune_api.termination import decode
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.workload.job import LABELS
from finetune_operator.workload.objects import PROFILE_ANNOTATION, Job, Pod, StatusCondition

STAGES: dict[str, Stage] = {label: stage for stage, label in LABELS.items()}
_IMAGE_ID_SCHEME = "docker-pullable://"


@dataclass(frozen=True)
class JobState:
    """A stage's Job."""

    name: str
    uid: str
    created: datetime | None
    deleting: bool
    complete: bool
    failed: StatusCondition | None

    @property
    def finished(self) -> bool:
        """Whether its controller will start no more pods."""
        return self.complete or self.failed is not None


@dataclass(frozen=True)
class PodState:
    """A pod of a stage: one attempt, once it runs on a node."""

    name: str
    job_uid: str
    created: datetime | None
    node: str
    phase: str
    started: datetime | None  # when the kubelet took it
    deletion: datetime | None  # when it should be gone
    waiting_reason: str
    waiting_message: str
    unschedulable: str  # the scheduler's words
    exit_code: int | None
    terminated_reason: str
    finished: datetime | None
    message: str  # the termination message as it stands
    result: StageResult | None  # the same, when it speaks of this job and this spec
    disruption: str  # reason of the DisruptionTarget condition
    note: str  # the kubelet's reason and message for a pod that it refused or evicted
    image: str  # by digest where the node says so

    @property
    def ended(self) -> bool:
        """Whether its container has ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def running(self) -> bool:
        """Whether its container runs."""
        return self.phase == "Running"


@dataclass(frozen=True)
class StageState:
    """A stage's Job and its pods, oldest first."""

    job: JobState | None = None
    profile_sha256: str | None = None
    pods: tuple[PodState, ...] = ()

    @property
    def current(self) -> tuple[PodState, ...]:
        """The pods of the Job that is there now."""
        return tuple(pod for pod in self.pods if self.job and pod.job_uid == self.job.uid)

    @property
    def newest(self) -> PodState | None:
        """The newest pod."""
        return self.pods[-1] if self.pods else None

    @property
    def success(self) -> tuple[PodState, StageResult] | None:
        """The pod that reported a result, and the result."""
        for pod in self.pods:
            if pod.result and not pod.result.failure and pod.phase == "Succeeded":
                return pod, pod.result
        return None


@dataclass(frozen=True)
class Observed:
    """Both stages, and pods of earlier Jobs or objects that still run and may write to the same place."""

    train: StageState = StageState()
    evaluate: StageState = StageState()
    lingering: tuple[str, ...] = ()

    def stage(self, stage: Stage) -> StageState:
        """One stage."""
        return self.train if stage == "Train" else self.evaluate


def observe(job: JobObject, jobs: Iterable[Job], pods: Iterable[Pod]) -> Observed:
    """Sorts the children that carry the job's label into stages.

    A Job counts when this object (by UID) controls it. A pod counts when such a Job controls it, now or by the record
    of an attempt, and carries this object's UID.
    """
    owned = {found.metadata.uid: found for found in jobs if _controlled_by(found, job.metadata.uid)}
    states: dict[Stage, StageState] = {}
    counted: set[str] = set()
    everything = sorted(pods, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name))
    for stage in ("Train", "Evaluate"):
        current = next((one for one in owned.values() if _stage(one) == stage), None)
        uids = {attempt.job_uid for attempt in job.status.attempts if attempt.stage == stage}
        uids |= {current.metadata.uid} if current else set()
        ours = [pod for pod in everything if _is_attempt(pod, job, stage, uids)]
        counted |= {pod.metadata.uid for pod in ours if current and _owner(pod) == current.metadata.uid}
        states[stage] = StageState(
            job=_job_state(current) if current else None,
            profile_sha256=current.metadata.annotations.get(PROFILE_ANNOTATION) if current else None,
            pods=tuple(_pod_state(pod, job, stage) for pod in ours),
        )
    lingering = tuple(
        pod.metadata.name
        for pod in everything
        if pod.metadata.uid not in counted and not pod.ended and _is_of_a_stage(pod)
    )
    return Observed(states["Train"], states["Evaluate"], lingering)


def _controlled_by(found: Job, uid: str) -> bool:
    controller = found.metadata.controller
    return controller is not None and controller.uid == uid


def _stage(child: Job | Pod) -> Stage | None:
    return STAGES.get(child.metadata.labels.get(STAGE_LABEL, ""))


def _owner(pod: Pod) -> str:
    controller = pod.metadata.controller
    return controller.uid if controller else ""


def _is_of_a_stage(pod: Pod) -> bool:
    """Whether this may be a trainer: any pod can carry a job's name as a label."""
    controller = pod.metadata.controller
    by_job = controller is not None and (controller.api_version, controller.kind) == ("batch/v1", "Job")
    return by_job and JOB_UID_LABEL in pod.metadata.labels and _stage(pod) is not None


def _is_attempt(pod: Pod, job: JobObject, stage: Stage, job_uids: set[str]) -> bool:
    same_object = pod.metadata.labels.get(JOB_UID_LABEL) == job.metadata.uid
    return same_object and _stage(pod) == stage and _owner(pod) in job_uids


def _job_state(found: Job) -> JobState:
    return JobState(
        name=found.metadata.name,
        uid=found.metadata.uid,
        created=found.metadata.creation_timestamp,
        deleting=found.metadata.deletion_timestamp is not None,
        complete=found.status.condition("Complete") is not None,
        failed=found.status.condition("Failed"),
    )


def _pod_state(pod: Pod, job: JobObject, stage: Stage) -> PodState:
    state = pod.container.state
    unscheduled = pod.status.condition("PodScheduled", "False")
    disruption = pod.status.condition("DisruptionTarget")
    message = state.terminated.message if state.terminated else ""
    return PodState(
        name=pod.metadata.name,
        job_uid=_owner(pod),
        created=pod.metadata.creation_timestamp,
        node=pod.spec.node_name,
        phase=pod.status.phase,
        started=pod.status.start_time,
        deletion=pod.metadata.deletion_timestamp,
        waiting_reason=state.waiting.reason if state.waiting else "",
        waiting_message=state.waiting.message if state.waiting else "",
        unschedulable=unscheduled.message if unscheduled and unscheduled.reason == "Unschedulable" else "",
        exit_code=state.terminated.exit_code if state.terminated else None,
        terminated_reason=state.terminated.reason if state.terminated else "",
        finished=state.terminated.finished_at if state.terminated else None,
        message=message,
        result=_accepted(message, job, stage),
        disruption=disruption.reason or "DisruptionTarget" if disruption else "",
        note=": ".join(filter(None, (pod.status.reason, pod.status.message))),
        image=_image(pod),
    )


def _accepted(message: str, job: JobObject, stage: Stage) -> StageResult | None:
    result = decode(message) if message else None
    if result is None or job.spec is None:
        return None
    ours = (result.stage, result.job_uid, result.spec_sha256) == (stage, job.metadata.uid, job.spec.sha256())
    return result if ours and _whole(result) else None


def _whole(result: StageResult) -> bool:
    """Whether a result holds what its stage promises."""
    if result.failure:
        return True
    if result.stage == "Train":
        return result.training is not None and result.adapter is not None
    return result.evaluation is not None


def _image(pod: Pod) -> str:
    """The image by digest; by its name where the node knows no digest of a registry."""
    pulled = pod.container.image_id.removeprefix(_IMAGE_ID_SCHEME)
    if "@sha256:" in pulled:
        return pulled
    return next((container.image for container in pod.spec.containers), "")
