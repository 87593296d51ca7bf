"""The parts of batch/v1 Job and v1 Pod that the operator reads, as models: parsed once, at the edge."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from finetune_api.base import ApiModel, Time
from finetune_api.names import GROUP

PROFILE_ANNOTATION = f"{GROUP}/profile-sha256"


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
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)


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


class Job(ApiModel):
    """A batch/v1 Job."""

    metadata: Metadata
    status: Conditions = Conditions()

    @property
    def finished(self) -> bool:
        """Whether its controller will start no more pods."""
        return bool(self.status.condition("Complete") or self.status.condition("Failed"))


class WaitingState(ApiModel):
    """Why a container has not started."""

    reason: str = ""
    message: str = ""


class TerminatedState(ApiModel):
    """How a container ended."""

    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: Time | None = None


class ContainerState(ApiModel):
    """One of waiting, running, terminated."""

    waiting: WaitingState | None = None
    running: dict[str, Any] | None = None
    terminated: TerminatedState | None = None


class ContainerStatus(ApiModel):
    """What the kubelet says of a container."""

    image_id: str = Field(default="", alias="imageID")
    state: ContainerState = ContainerState()


class PodStatus(Conditions):
    """A pod's status."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: Time | None = None
    container_statuses: list[ContainerStatus] = []


class Container(ApiModel):
    """A container as asked for."""

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
    def container(self) -> ContainerStatus:
        """The status of the only container."""
        return next(iter(self.status.container_statuses), ContainerStatus())

    @property
    def ended(self) -> bool:
        """Whether its container has ended for good."""
        return self.status.phase in ("Succeeded", "Failed")
