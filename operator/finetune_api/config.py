"""What the operator hands to a stage's pod, as one file. A local run writes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel, Sha256
from finetune_api.defaults import ResolvedSpec
from finetune_api.uris import ClaimPath


class JobReference(ApiModel):
    """The FineTuneJob object that a run belongs to."""

    namespace: str
    name: str
    uid: str


class ClaimMount(ApiModel):
    """Where a PersistentVolumeClaim is mounted in the pod."""

    claim: str
    path: str


class SecretMount(ApiModel):
    """Where a Secret's keys lie in the pod, a file for each."""

    name: str
    path: str


class ProgressEndpoint(ApiModel):
    """Where progress is posted."""

    url: str
    ca_file: str | None = None
    token_file: str


class RunConfig(ApiModel):
    """One run: all stages read the same fields."""

    job: JobReference
    spec: ResolvedSpec
    training_sha256: Sha256
    evaluation_sha256: Sha256 | None = None
    mounts: Annotated[list[ClaimMount], Field(max_length=32)] = []
    # Without the one that a source names, as in a local run, credentials come from the environment.
    secrets: Annotated[list[SecretMount], Field(max_length=32)] = []
    # A folder for prepared rows and downloads that outlives the pod; absent: prepared rows go to the output claim.
    cache_directory: str | None = None
    progress: ProgressEndpoint | None = None
    image: str = ""
    profile_sha256: Sha256 | None = None
    trust_remote_code: bool = False

    def local_path(self, location: ClaimPath) -> Path:
        """Where a claim's path lies in this pod. Raises ValueError when the claim is not mounted."""
        for mount in self.mounts:
            if mount.claim == location.claim:
                return Path(mount.path) / location.path
        raise ValueError(f"claim {location.claim!r} is not mounted; mounted: {[mount.claim for mount in self.mounts]}")
