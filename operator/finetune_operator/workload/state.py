"""What has become of a stage's Job and pods: the one place that reads what Kubernetes says of them. Pure.

Nothing here counts on a stage having one pod. A pod is judged by its container named trainer alone; what somebody
injects beside it may run on after it, or end before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from finetune_api.names import CONTAINER, PROFILE_ANNOTATION
from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_api.termination import decode
from finetune_operator.workload.objects import Job, Pod, StatusCondition

_IMAGE_ID_SCHEME = "docker-pullable://"
# While a container waits for one of these, all goes well; any other reason is an error, also of a newer kubelet.
_ON_ITS_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
_PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)


@dataclass(frozen=True)
class JobState:
    """A stage's Job."""

    name: str
    uid: str
    created: datetime | None
    deleting: bool
    finalizers: tuple[str, ...]
    suspended: bool
    complete: bool
    failed: StatusCondition | None
    profile_sha256: str | None

    @property
    def finished(self) -> bool:
        """Whether its controller will start no more pods."""
        return self.complete or self.failed is not None


@dataclass(frozen=True)
class Waiting:
    """Why a trainer does not run yet, in the words of whoever holds it up."""

    reason: str
    message: str
    again: bool = False  # the kubelet backs off after an error that it told before


@dataclass(frozen=True)
class PodState:
    """A pod of a stage: one attempt, once it runs on a node."""

    name: str
    uid: str
    job_uid: str
    created: datetime | None
    node: str
    phase: str
    started: datetime | None  # when the kubelet took it
    runs: bool  # its trainer does, though the pod may count as Pending while a container beside it can't start
    initializing: str  # the container that runs before the trainer, if one does
    failed_before: str  # the container that ended badly before the trainer could start
    silent_node: bool  # the node's controller, not its kubelet, says that the pod is not ready
    deletion: datetime | None  # when it should be gone
    waiting: Waiting | None
    exit_code: int | None
    terminated_reason: str
    finished: datetime | None
    message: str  # the termination message as it stands
    result: StageResult | None  # the same, when it speaks of this job and this spec
    disruption: str  # reason of the DisruptionTarget condition
    note: str  # the kubelet's reason and message for a pod that it refused or evicted
    image: str  # by digest where the node says so
    beside: tuple[str, ...]  # other containers that have not ended

    @property
    def ended(self) -> bool:
        """Whether its trainer has ended for good."""
        return self.phase in ("Succeeded", "Failed") or self.exit_code is not None

    @property
    def running(self) -> bool:
        """Whether its trainer runs."""
        return (self.runs or self.phase == "Running") and not self.ended

    @property
    def succeeded(self) -> bool:
        """Whether its trainer has ended well."""
        return self.exit_code == 0 if self.exit_code is not None else self.phase == "Succeeded"

    @property
    def held_open(self) -> str:
        """The containers that keep the pod from ending after its trainer has; empty where there are none."""
        return ", ".join(self.beside) if self.ended and self.phase not in ("Succeeded", "Failed") else ""


@dataclass(frozen=True)
class WorkloadState:
    """A stage's Job and the pods that this and earlier Jobs of the stage ran, oldest first."""

    job: JobState | None = None
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
            if pod.result and not pod.result.failure and pod.succeeded:
                return pod, pod.result
        return None


def state(job: Job | None, pods: Iterable[Pod], accepts: Callable[[StageResult], bool]) -> WorkloadState:
    """What the stage's Job and ``pods``, oldest first, have come to. ``accepts`` tells results of ours from others."""
    return WorkloadState(_job_state(job) if job else None, tuple(_pod_state(pod, accepts) for pod in pods))


def _job_state(found: Job) -> JobState:
    return JobState(
        name=found.metadata.name,
        uid=found.metadata.uid,
        created=found.metadata.creation_timestamp,
        deleting=found.metadata.deletion_timestamp is not None,
        finalizers=tuple(found.metadata.finalizers),
        suspended=found.spec.suspend,
        complete=found.status.condition("Complete") is not None,
        failed=found.status.condition("Failed"),
        profile_sha256=found.metadata.annotations.get(PROFILE_ANNOTATION),
    )


def _pod_state(pod: Pod, accepts: Callable[[StageResult], bool]) -> PodState:
    terminated = pod.trainer.state.terminated
    message = terminated.message if terminated else ""
    result = decode(message) if message else None
    disruption = pod.status.condition("DisruptionTarget")
    controller = pod.metadata.controller
    unready = pod.status.condition("Ready", "False")
    return PodState(
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        job_uid=controller.uid if controller else "",
        created=pod.metadata.creation_timestamp,
        node=pod.spec.node_name,
        phase=pod.status.phase,
        started=pod.status.start_time,
        runs=pod.trainer.state.running is not None,
        initializing=_initializing(pod),
        failed_before=next((one.name for one in pod.status.init_container_statuses if one.failed), ""),
        silent_node=unready is not None and not unready.reason,
        deletion=pod.metadata.deletion_timestamp,
        waiting=_waiting(pod),
        exit_code=terminated.exit_code if terminated else None,
        terminated_reason=terminated.reason if terminated else "",
        finished=terminated.finished_at if terminated else None,
        message=message,
        result=result if result and accepts(result) else None,
        disruption=(disruption.reason or disruption.type) if disruption else "",
        note=": ".join(filter(None, (pod.status.reason, pod.status.message))),
        image=_image(pod),
        beside=tuple(pod.beside),
    )


def _waiting(pod: Pod) -> Waiting | None:
    """What scheduler or kubelet say of a container that has not started."""
    unscheduled = pod.status.condition("PodScheduled", "False")
    if unscheduled:  # for want of a node, or held back by a scheduling gate
        return Waiting(Reason.UNSCHEDULABLE, unscheduled.message)
    for one in (pod.trainer, *pod.status.init_container_statuses):
        why = one.state.waiting
        if why and why.reason not in _ON_ITS_WAY:
            reason = Reason.IMAGE_PULL_FAILED if why.reason in _PULL_REASONS else Reason.POD_REJECTED
            container = "" if one.name == CONTAINER else f"container {one.name}"
            said = ": ".join(filter(None, (container, why.reason, why.message)))
            return Waiting(reason, said, why.reason.endswith("BackOff"))
    return None


def _initializing(pod: Pod) -> str:
    if pod.status.condition("Initialized"):
        return ""
    return next((one.name for one in reversed(pod.status.init_container_statuses) if one.state.running), "")


def _image(pod: Pod) -> str:
    """The image by digest; by its name where the node knows no digest of a registry."""
    pulled = pod.trainer.image_id.removeprefix(_IMAGE_ID_SCHEME)
    if "@sha256:" in pulled:
        return pulled
    return next((container.image for container in pod.spec.containers if container.name == CONTAINER), "")
