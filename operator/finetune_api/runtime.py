"""``spec.runtime`` and ``spec.scheduling``: where a stage's pod runs and how often it is tried."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from finetune_api.base import ApiModel
from finetune_api.quantities import Quantity, amount
from finetune_api.rules import rule, validations

# Kubernetes' qualified names: an optional DNS prefix, and at most 63 characters.
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]"
_PREFIX = r"([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
_KEY = f"{_PREFIX}{_NAME}"
LABEL_KEY = f"^{_KEY}$"
LABEL_KEY_LENGTH = 253 + 1 + 63

LabelValue = Annotated[str, Field(max_length=63, pattern=f"^({_NAME})?$")]
ResourceList = Annotated[dict[str, Quantity], Field(max_length=16)]

RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _exceeds(resource: str) -> str:
    return f"requests.{resource} is more than limits.{resource}: set both (requests default to 4 CPUs and 16Gi)"


def _within_limit(resource: str) -> dict[str, str]:
    request, limit = f"self.requests['{resource}']", f"self.limits['{resource}']"
    return rule(
        "!has(self.requests) || !has(self.limits) || "
        f"!('{resource}' in self.requests) || !('{resource}' in self.limits) || "
        f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0",
        _exceeds(resource),
    )


def _known(field: str) -> dict[str, str]:
    return rule(f"!has(self.{field}) || self.{field}.all(name, name in {list(RESOURCES)})", _unknown(field))


def _unknown(field: str) -> str:
    return f"{field} may name {', '.join(RESOURCES)} only: GPUs come from gpusPerNode"


class ResourcesSpec(ApiModel):
    """CPU, memory and ephemeral storage of a stage's container. GPUs come from gpusPerNode."""

    model_config = {
        "json_schema_extra": validations(_known("requests"), _known("limits"), *map(_within_limit, RESOURCES))
    }

    requests: ResourceList = Field(
        default={"cpu": "4", "memory": "16Gi"}, description="Requested amounts, by resource name."
    )
    limits: ResourceList = Field(default={"memory": "16Gi"}, description="Limits, by resource name.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, amounts in (("requests", self.requests), ("limits", self.limits)):
            if not amounts.keys() <= set(RESOURCES):
                raise ValueError(_unknown(field))
        for resource in self.requests.keys() & self.limits.keys():
            if amount(self.requests[resource]) > amount(self.limits[resource]):
                raise ValueError(_exceeds(resource))
        return self


_KEYLESS = "a toleration without key needs operator Exists"
_EXISTS = "a toleration with operator Exists takes no value"
_SECONDS = "tolerationSeconds needs effect NoExecute"


class Toleration(ApiModel):
    """A pod toleration."""

    model_config = {
        "json_schema_extra": validations(
            rule("(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')", _KEYLESS),
            rule(
                "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
                _EXISTS,
            ),
            rule("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", _SECONDS),
        )
    }

    key: str | None = Field(
        default=None,
        max_length=LABEL_KEY_LENGTH,
        pattern=f"^({_KEY})?$",
        description="Taint key; absent matches all keys.",
    )
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How key and value are compared.")
    value: LabelValue | None = Field(default=None, description="Taint value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; absent matches all effects."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="How long a NoExecute taint is tolerated, in seconds."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError(_KEYLESS)
        if self.operator == "Exists" and self.value:
            raise ValueError(_EXISTS)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(_SECONDS)
        return self


_NO_LABEL = "a key of nodeSelector is no label key, like pool or example.com/pool"


def _label_keys(labels: dict[str, str]) -> dict[str, str]:
    if not all(len(key) <= LABEL_KEY_LENGTH and re.fullmatch(LABEL_KEY, key) for key in labels):
        raise ValueError(_NO_LABEL)
    return labels


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
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_label_keys)] = Field(
        default={},
        description="Labels that a node must carry.",
        json_schema_extra=validations(
            rule(f"self.all(key, key.size() <= {LABEL_KEY_LENGTH} && key.matches('{LABEL_KEY}'))", _NO_LABEL)
        ),
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
