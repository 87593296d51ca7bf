"""The administrator's profile: everything about a pod that users don't choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from finetune_api.base import ApiModel, Sha256, first_problem, one_line, sha256_of
from finetune_api.quantities import Quantity
from finetune_api.runtime import Toleration

PROFILE_KEY = "profile.yaml"


Namespace = Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$")]


class EnvironmentVariable(ApiModel):
    """A plain variable of the container. Secrets don't belong here."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=256)]
    value: str = ""


class Profile(ApiModel):
    """What ``profile.yaml`` may say. Unknown keys are refused: a typing error must not pass silently."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(min_length=1, max_length=512)]
    # Whose jobs may use it: names, or "*"; absent: every namespace's.
    allowed_namespaces: Annotated[list[Namespace], Field(min_length=1)] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: list[str] = []
    gpu_resource_name: Annotated[str, Field(min_length=1, max_length=316)] = "nvidia.com/gpu"
    runtime_class_name: str | None = None
    node_selector: dict[str, str] = {}  # wins over the job's own keys
    tolerations: list[Toleration] = []  # added to the job's
    affinity: dict[str, Any] | None = None
    service_account_name: str | None = None
    fs_group: Annotated[int, Field(ge=0)] | None = None
    run_as_user: Annotated[int, Field(ge=1)] | None = None  # absent: the image's own
    shm_size: Quantity | None = None  # /dev/shm; absent: the container runtime's 64 MiB
    # What a pod that is told to stop may take to leave a step and to save; the kubelet kills what takes longer.
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    cache_claim: str | None = None  # a PersistentVolumeClaim of the job's namespace, for downloads
    trust_remote_code: bool = False  # runs what a model's author wrote, so allowed_namespaces must say where
    env: list[EnvironmentVariable] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trust_remote_code and (self.allowed_namespaces is None or "*" in self.allowed_namespaces):
            raise ValueError("trustRemoteCode: true needs allowedNamespaces that name each namespace")
        return self

    def allows(self, namespace: str) -> bool:
        """Whether a namespace's jobs may use this profile."""
        return self.allowed_namespaces is None or bool({"*", namespace} & set(self.allowed_namespaces))


@dataclass(frozen=True)
class LoadedProfile:
    """A profile with its name and the digest of its content."""

    name: str
    profile: Profile
    sha256: Sha256


@dataclass(frozen=True)
class ProfileProblem:
    """Why there is no usable profile; mending the ConfigMap helps at the next visit."""

    message: str


def config_map_name(profile: str) -> str:
    """The ConfigMap that holds a profile."""
    return f"finetune-profile-{profile}"


def parse_profile(name: str, namespace: str, data: dict[str, str] | None) -> LoadedProfile | ProfileProblem:
    """Reads the ``data`` of a profile's ConfigMap; None stands for a missing ConfigMap."""
    where = f"ConfigMap {namespace}/{config_map_name(name)}"
    if data is None:
        return ProfileProblem(f"there is no profile {name!r}: the administrator creates {where} or names another")
    if PROFILE_KEY not in data:
        return ProfileProblem(f"{where} has no key {PROFILE_KEY}")
    try:
        content = yaml.safe_load(data[PROFILE_KEY])
        profile = Profile.model_validate(content, by_name=False)  # shm_size is no key
        return LoadedProfile(name, profile, sha256_of(profile.to_api()))
    except ValidationError as error:
        return ProfileProblem(f"{where} key {PROFILE_KEY}: {first_problem(error)}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Beside what is no YAML: a day that no calendar has, half of a surrogate pair, a thousand brackets.
        return ProfileProblem(f"{where} key {PROFILE_KEY} is no YAML: {one_line(str(error), 300)}")
