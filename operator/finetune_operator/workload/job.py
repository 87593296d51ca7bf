"""The children of one FineTuneJob: its configuration and a Job per stage. Built once, never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from finetune_api.config import ClaimMount, JobReference, ProgressEndpoint, RunConfig
from finetune_api.job import ObjectMeta
from finetune_api.names import (
    API_VERSION,
    CA_FILE,
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    JOB_LABEL,
    JOB_UID_LABEL,
    KIND,
    SPEC_ANNOTATION,
    STAGE_LABEL,
    TOKEN_DIRECTORY,
    TOKEN_FILE,
    child_name,
    claim_mount_path,
    progress_path,
    token_audience,
)
from finetune_api.reasons import FREE_EXIT_CODES, NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL
from finetune_api.results import Stage
from finetune_api.spec import FineTuneJobSpec
from finetune_api.uris import ClaimPath, parse_source
from finetune_operator.workload.objects import PROFILE_ANNOTATION
from finetune_operator.workload.pod_template import pod_template
from finetune_operator.workload.profile import LoadedProfile

SUFFIXES: dict[Stage, str] = {"Train": "train", "Evaluate": "eval"}
LABELS: dict[Stage, str] = {"Train": "train", "Evaluate": "evaluate"}


@dataclass(frozen=True)
class Gateway:
    """The status gateway as pods reach it."""

    url: str
    ca: str  # PEM


@dataclass(frozen=True)
class Order:
    """All that the children are built from."""

    metadata: ObjectMeta
    spec: FineTuneJobSpec  # resolved
    profile: LoadedProfile
    gateway: Gateway | None  # None: pods report no progress

    @property
    def config_name(self) -> str:
        """The ConfigMap with the run's configuration."""
        return child_name(self.metadata.name, "config")


def config_map(order: Order) -> dict[str, Any]:
    """The ConfigMap that both stages mount."""
    config = json.dumps(run_config(order).to_api(), indent=2, ensure_ascii=False)
    authority = {CA_FILE: order.gateway.ca} if order.gateway else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(order, order.config_name, {JOB_LABEL: order.metadata.name}),
        "immutable": True,
        "data": {CONFIG_FILE: config, **authority},
    }


def stage_job(order: Order, stage: Stage) -> dict[str, Any]:
    """The Job that runs a stage."""
    labels = {
        JOB_LABEL: order.metadata.name,
        STAGE_LABEL: LABELS[stage],
        JOB_UID_LABEL: order.metadata.uid,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(order, child_name(order.metadata.name, SUFFIXES[stage]), labels),
        "spec": {
            "backoffLimit": order.spec.scheduling.backoff_limit,
            # The only choice beside a podFailurePolicy: a pod is replaced when it has ended, never while it ends.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": pod_template(
                order.spec.runtime,
                order.profile.profile,
                labels=labels,
                arguments=[LABELS[stage], "--config", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}"],
                config_name=order.config_name,
                claims=claims(order.spec),
                writable=output_claim(order.spec),
                token_audience=_audience(order),
            ),
        },
    }


def run_config(order: Order) -> RunConfig:
    """What the trainer and the evaluator read."""
    meta = order.metadata
    return RunConfig(
        job=JobReference(namespace=meta.namespace, name=meta.name, uid=meta.uid),
        spec=order.spec,
        spec_sha256=order.spec.sha256(),
        mounts=[ClaimMount(claim=claim, path=claim_mount_path(claim)) for claim in claims(order.spec)],
        progress=_progress(order),
        image=order.profile.profile.image,
        profile_sha256=order.profile.sha256,
        trust_remote_code=order.profile.profile.trust_remote_code,
    )


def claims(spec: FineTuneJobSpec) -> list[str]:
    """The PersistentVolumeClaims that a spec names, each once, in the order of the spec."""
    sources = [spec.model.source, spec.dataset.source]
    if spec.evaluation:
        sources.append(spec.evaluation.dataset.source)
    places = [parse_source(uri) for uri in (*sources, spec.output.destination)]
    return list(dict.fromkeys(place.claim for place in places if isinstance(place, ClaimPath)))


def output_claim(spec: FineTuneJobSpec) -> str:
    """The claim that the run writes to."""
    place = parse_source(spec.output.destination)
    if not isinstance(place, ClaimPath):
        raise ValueError(f"{spec.output.destination!r} is no pvc:// destination")
    return place.claim


def _failure_rules() -> list[dict[str, Any]]:
    """In order: a disrupted pod is free whatever its exit code, then the trainer's own codes; the rest counts."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": FREE_EXIT_CODES}},
        {
            "action": "FailJob",
            "onExitCodes": {"operator": "In", "values": sorted([*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL])},
        },
    ]


def _progress(order: Order) -> ProgressEndpoint | None:
    if not order.gateway:
        return None
    return ProgressEndpoint(
        url=order.gateway.url + progress_path(order.metadata.namespace, order.metadata.name),
        ca_file=f"{CONFIG_DIRECTORY}/{CA_FILE}",
        token_file=f"{TOKEN_DIRECTORY}/{TOKEN_FILE}",
    )


def _audience(order: Order) -> str | None:
    if not order.gateway:
        return None
    return token_audience(order.metadata.namespace, order.metadata.name, order.metadata.uid)


def _metadata(order: Order, name: str, labels: dict[str, str]) -> dict[str, Any]:
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": order.metadata.name,
        "uid": order.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": order.metadata.namespace,
        "labels": labels,
        "annotations": {SPEC_ANNOTATION: order.spec.sha256(), PROFILE_ANNOTATION: order.profile.sha256},
        "ownerReferences": [owner],
    }
