"""``spec.runtime`` and ``spec.scheduling``: where a stage's pod runs and how often it is tried."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from finetune_api.base import ApiModel
from finetune_api.rules import rule, validations

# Kubernetes' resource.Quantity, as its own OpenAPI pattern has it.
Quantity = Annotated[
    str,
    Field(
        max_length=32,
        json_schema_extra={"x-kubernetes-int-or-string": True},
        pattern=r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    ),
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
LabelValue = Annotated[str, Field(max_length=63)]
ResourceList = Annotated[dict[str, Quantity], Field(max_length=16)]


def _within_limit(resource: str) -> dict[str, str]:
    request, limit = f"self.requests['{resource}']", f"self.limits['{resource}']"
    return rule(
        "!has(self.requests) || !has(self.limits) || "
        f"!('{resource}' in self.requests) || !('{resource}' in self.limits) || "
        f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0",
        f"requests.{resource} is more than limits.{resource}: set both (requests default to 4 CPUs and 16Gi)",
    )


class ResourcesSpec(ApiModel):
    """CPU, memory and ephemeral storage of a stage's container. GPUs come from gpusPerNode."""

    model_config = {"json_schema_extra": validations(_within_limit("memory"), _within_limit("cpu"))}

    requests: ResourceList = Field(
        default={"cpu": "4", "memory": "16Gi"}, description="Requested amounts, by resource name."
    )
    limits: ResourceList = Field(default={"memory": "16Gi"}, description="Limits, by resource name.")


class Toleration(ApiModel):
    """A pod toleration."""

    key: str | None = Field(default=None, max_length=316, description="Taint key; absent matches all keys.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How key and value are compared.")
    value: str | None = Field(default=None, max_length=63, description="Taint value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; absent matches all effects."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="How long a NoExecute taint is tolerated, in seconds."
    )


class RuntimeSpec(ApiModel):
    """The pod that a stage runs in. Image, command and host paths are the administrator's: see profile."""

    profile: str = Field(
        default="default",
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="The administrator's profile: image, GPU resource name, caches, runtime class, pull secrets.",
    )
    gpus_per_node: int = Field(
        default=1, ge=0, le=1, description="GPUs of the pod. 0 trains on the CPU, for trials with a tiny model."
    )
    resources: ResourcesSpec = Field(default=ResourcesSpec(), description="CPU and memory of the pod.")
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default={}, description="Labels that a node must carry."
    )
    tolerations: list[Toleration] = Field(
        default=[],
        max_length=32,
        description="Taints that the pod tolerates.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class SchedulingSpec(ApiModel):
    """Retries. Preempted and evicted pods are replaced without counting."""

    backoff_limit: int = Field(
        default=3, ge=0, le=100, description="Crashes of a stage after which the job fails. Mistakes are never retried."
    )
