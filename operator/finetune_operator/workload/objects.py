"""The parts of batch/v1 Job and v1 Pod that the operator reads, as models: parsed once, at the edge.

Two versions of an object that say the same to us are equal, since what we don't read is not kept.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from finetune_api.base import ApiModel, Time
from finetune_api.names import CONTAINER, FOLDER_ANNOTATION, JOB_LABEL, PROFILE_ANNOTATION, TRAINING_ANNOTATION

# A pod carries its configuration as an annotation too: kept for every pod, that would be most of the memory.
_KEPT = frozenset({FOLDER_ANNOTATION, PROFILE_ANNOTATION, TRAINING_ANNOTATION})


def _those_we_read(annotations: Any) -> Any:
    if not isinstance(annotations, dict):
        return annotations
    return {name: value for name, value in annotations.items() if name in _KEPT}


class OwnerReference(ApiModel):
    """A metav1.OwnerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(ApiModel):
    """A child's metav1.ObjectMeta."""

    name: str
    namespace: str
    uid: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = {}
    annotations: Annotated[dict[str, str], BeforeValidator(_those_we_read)] = {}
    owner_references: list[OwnerReference] = []

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def job(self) -> str:
        """The name of the FineTuneJob that this is a child of, by its label."""
        return self.labels.get(JOB_LABEL, "")


class StatusCondition(ApiModel):
    """A condition of a Job or Pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Conditions(ApiModel):
    """Whatever has conditions."""

    conditions: list[StatusCondition] = []

    def condition(self, kind: str, status: str = "True") -> StatusCondition | None:
        """The condition of this type and status, if it is there."""
        return next((one for one in self.conditions if one.type == kind and one.status == status), None)


class JobMetadata(Metadata):
    """A Job's metadata."""

    finalizers: list[str] = []


class JobSpec(ApiModel):
    """A Job's spec."""

    suspend: bool = False


class Job(ApiModel):
    """A batch/v1 Job."""

    metadata: JobMetadata
    spec: JobSpec = JobSpec()
    status: Conditions = Conditions()

    @property
    def finished(self) -> bool:
        """Whether its controller will start no more pods."""
        return bool(self.status.condition("Complete") or self.status.condition("Failed"))


class WaitingState(ApiModel):
    """Why a container has not started."""

    reason: str = ""
    message: str = ""


class RunningState(ApiModel):
    """Since when a container runs."""

    started_at: Time | None = None


class TerminatedState(ApiModel):
    """How a container ended."""

    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: Time | None = None


class ContainerState(ApiModel):
    """One of waiting, running, terminated."""

    waiting: WaitingState | None = None
    running: RunningState | None = None
    terminated: TerminatedState | None = None


class ContainerStatus(ApiModel):
    """What the kubelet says of a container."""

    name: str = ""
    image_id: str = Field(default="", alias="imageID")
    state: ContainerState = ContainerState()

    @property
    def failed(self) -> bool:
        """Whether it has ended badly."""
        return self.state.terminated is not None and self.state.terminated.exit_code != 0


class PodStatus(Conditions):
    """A pod's status."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: Time | None = None
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []


class Container(ApiModel):
    """A container as asked for."""

    name: str = ""
    image: str = ""


class PodSpec(ApiModel):
    """A pod's spec."""

    node_name: str = ""
    containers: list[Container] = []


class Pod(ApiModel):
    """A v1 Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def trainer(self) -> ContainerStatus:
        """The status of the trainer's container, whatever stands beside it."""
        return next((one for one in self.status.container_statuses if one.name == CONTAINER), ContainerStatus())

    @property
    def beside(self) -> list[str]:
        """Names of containers that somebody injected and that have not ended, or not even started."""
        statuses = self.status.container_statuses
        return [one.name for one in statuses if one.name != CONTAINER and not one.state.terminated]

    @property
    def ended(self) -> bool:
        """Whether all of its containers have ended for good."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def live(self) -> bool:
        """Whether its trainer runs, or may still: once it has ended, the pod writes nothing more."""
        return not self.ended and self.trainer.state.terminated is None
