"""Who may report for which job: pure checks over a verified token, its pod and the pod's Job.

The chain of trust is token → pod (by UID) → batch/v1 Job (controller) → FineTuneJob (controller, by UID). Labels alone
prove nothing, because whoever makes pods in a namespace chooses them. Whoever may create Jobs or pods there can still
forge owner references, so a report is written only if the operator has recorded its Job's UID and pod in status
(see decision.py). What remains: a user who may change status, or the pods of the job, can show false progress for jobs
of that namespace, and of no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from finetune_api import names
from finetune_api.stages import BY_COMMAND
from finetune_operator.gateway.refusal import forbidden, unauthenticated
from finetune_operator.workload.objects import Metadata, OwnerReference

_UID_LENGTH = 64


@dataclass(frozen=True)
class JobKey:
    """One FineTuneJob object. A namesake created later has another UID."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Reporter:
    """A pod that may report for a job."""

    job: JobKey
    stage: str  # its name in status: see finetune_api.stages
    pod: str
    pod_uid: str
    created: datetime  # orders the attempts of a job: whole seconds, UTC
    batch_job_uid: str


class _External(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)


class BoundObject(_External):
    """The object that a token is bound to."""

    name: str
    uid: str


class KubernetesClaims(_External):
    """The private claims of a service account token."""

    namespace: str
    pod: BoundObject | None = None


class TokenClaims(_External):
    """The claims that we read of a verified token."""

    aud: list[str]
    kubernetes: Annotated[KubernetesClaims, Field(alias="kubernetes.io")]


def parse_claims(claims: object) -> TokenClaims:
    """Reads the claims of a verified token. Raises Refusal (401) when it is no service account token."""
    try:
        return TokenClaims.model_validate(claims)
    except ValidationError:
        raise unauthenticated("the token is not a Kubernetes service account token") from None


def bound_pod(claims: TokenClaims) -> BoundObject:
    """The pod that a token is bound to. Raises Refusal (403) when there is none."""
    if claims.kubernetes.pod is None:
        raise forbidden("the token is not bound to a pod; use a projected service account token")
    return claims.kubernetes.pod


def job_of(claims: TokenClaims, namespace: str, name: str) -> JobKey:
    """The job that a token was made for. Raises Refusal (403) unless that is the one in the URL."""
    if claims.kubernetes.namespace != namespace:
        raise forbidden(f"the token is of namespace {claims.kubernetes.namespace!r}, not of {namespace!r}")
    prefix = names.token_audience(namespace, name, "")
    uids = [audience.removeprefix(prefix) for audience in claims.aud if audience.startswith(prefix)]
    if len(uids) != 1 or not 0 < len(uids[0]) <= _UID_LENGTH:
        raise forbidden(f"the token's audience is not {prefix}<uid>")
    return JobKey(namespace, name, uids[0])


def batch_job_of(pod: Metadata, bound: BoundObject, job: JobKey) -> OwnerReference:
    """The Job that controls a pod. Raises Refusal (403) unless the pod is the token's, and labelled for the job."""
    if pod.uid != bound.uid:
        raise forbidden(f"pod {pod.name!r} is not the one that the token was made for")
    if (pod.labels.get(names.JOB_LABEL), pod.labels.get(names.JOB_UID_LABEL)) != (job.name, job.uid):
        raise forbidden(f"pod {pod.name!r} does not carry the labels of FineTuneJob {job} with UID {job.uid}")
    owner = pod.controller
    if owner is None or (owner.api_version, owner.kind) != ("batch/v1", "Job"):
        raise forbidden(f"pod {pod.name!r} is not controlled by a Job")
    return owner


def reporter_of(pod: Metadata, batch_job: Metadata, job: JobKey) -> Reporter:
    """The reporter that a pod is, given its own Job. Raises Refusal (403) unless the FineTuneJob controls that Job."""
    owner = batch_job.controller
    wanted = (names.API_VERSION, names.KIND, job.name, job.uid)
    if owner is None or (owner.api_version, owner.kind, owner.name, owner.uid) != wanted:
        raise forbidden(f"Job {batch_job.name!r} is not controlled by FineTuneJob {job} with UID {job.uid}")
    stage = BY_COMMAND.get(pod.labels.get(names.STAGE_LABEL, ""))
    if stage is None:
        raise forbidden(f"pod {pod.name!r} carries no label {names.STAGE_LABEL}: {' or '.join(BY_COMMAND)}")
    if pod.creation_timestamp is None:
        raise forbidden(f"pod {pod.name!r} has no creationTimestamp")
    return Reporter(job, stage.name, pod.name, pod.uid, pod.creation_timestamp, batch_job.uid)
