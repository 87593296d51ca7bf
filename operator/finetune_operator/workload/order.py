"""All that a stage of one FineTuneJob is built from, and the configuration that its pod reads."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.config import ClaimMount, JobReference, ProgressEndpoint, RunConfig, SecretMount
from finetune_api.credentials import secret_mount_path
from finetune_api.defaults import ResolvedSpec
from finetune_api.job import ObjectMeta
from finetune_api.names import (
    CA_FILE,
    CONFIG_DIRECTORY,
    TOKEN_DIRECTORY,
    TOKEN_FILE,
    claim_mount_path,
    progress_path,
    token_audience,
)
from finetune_api.sources import claims_read, claims_written, secrets_read
from finetune_api.stages import Stage
from finetune_operator.workload.profile import LoadedProfile

CACHE_DIRECTORY = "/mnt/cache"


@dataclass(frozen=True)
class Gateway:
    """The status gateway as pods reach it."""

    url: str
    ca: str  # PEM


@dataclass(frozen=True)
class Order:
    """All that the children are built from."""

    metadata: ObjectMeta
    spec: ResolvedSpec
    training_sha256: str
    folder: str  # the run's, as a pvc:// URI
    profile: LoadedProfile
    gateway: Gateway | None  # None: pods report no progress

    @property
    def audience(self) -> str | None:
        """The audience of the pods' progress token; None without a gateway."""
        meta = self.metadata
        return token_audience(meta.namespace, meta.name, meta.uid) if self.gateway else None

    def config(self, stage: Stage) -> RunConfig:
        """What the pods of a stage read: the same for each, but for the Secrets that they mount."""
        meta, secrets = self.metadata, secrets_read(self.spec, stage)
        return RunConfig(
            job=JobReference(namespace=meta.namespace, name=meta.name, uid=meta.uid),
            spec=self.spec,
            training_sha256=self.training_sha256,
            evaluation_sha256=self.spec.evaluation_sha256(),
            mounts=[ClaimMount(claim=claim, path=claim_mount_path(claim)) for claim in claims(self.spec)],
            secrets=[SecretMount(name=name, path=secret_mount_path(name)) for name in secrets],
            cache_directory=CACHE_DIRECTORY if self.profile.profile.cache_claim else None,
            progress=self._progress(),
            image=self.profile.profile.image,
            profile_sha256=self.profile.sha256,
            trust_remote_code=self.profile.profile.trust_remote_code,
        )

    def _progress(self) -> ProgressEndpoint | None:
        if not self.gateway:
            return None
        return ProgressEndpoint(
            url=self.gateway.url + progress_path(self.metadata.namespace, self.metadata.name),
            ca_file=f"{CONFIG_DIRECTORY}/{CA_FILE}",
            token_file=f"{TOKEN_DIRECTORY}/{TOKEN_FILE}",
        )


def claims(spec: ResolvedSpec) -> list[str]:
    """The PersistentVolumeClaims that a spec names, each once, in the order of the spec."""
    return list(dict.fromkeys([*claims_read(spec), *claims_written(spec)]))
