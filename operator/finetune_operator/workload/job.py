"""The batch/v1 Job that runs a stage. Built once, never changed: the run's configuration is part of it."""

from __future__ import annotations

from typing import Any

from finetune_api.base import canonical_json
from finetune_api.names import (
    API_VERSION,
    CA_ANNOTATION,
    CONFIG_ANNOTATION,
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    CONTAINER,
    FOLDER_ANNOTATION,
    JOB_LABEL,
    JOB_UID_LABEL,
    KIND,
    PROFILE_ANNOTATION,
    STAGE_LABEL,
    TRAINING_ANNOTATION,
    child_name,
)
from finetune_api.reasons import FREE_EXIT_CODES, NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL
from finetune_api.stages import Stage
from finetune_operator.workload.order import Order
from finetune_operator.workload.pod_template import pod_template


def build(order: Order, stage: Stage, crashes: int) -> dict[str, Any]:
    """The Job of a stage that has crashed ``crashes`` times before, under earlier Jobs."""
    labels = {
        JOB_LABEL: order.metadata.name,
        STAGE_LABEL: stage.command,
        JOB_UID_LABEL: order.metadata.uid,
    }
    evidence = {
        TRAINING_ANNOTATION: order.training_sha256,
        FOLDER_ANNOTATION: order.folder,
        PROFILE_ANNOTATION: order.profile.sha256,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(order.metadata.name, stage),
            "namespace": order.metadata.namespace,
            "labels": labels,
            "annotations": evidence,
            "ownerReferences": [_owner(order)],
        },
        "spec": {
            "backoffLimit": max(0, order.spec.scheduling.backoff_limit - crashes),
            # The only choice beside a podFailurePolicy: a pod is replaced when it has ended, never while it ends.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": pod_template(
                order,
                stage,
                labels=labels,
                annotations={**evidence, **_files(order, stage)},
                arguments=[stage.command, "--config", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}"],
            ),
        },
    }


def job_name(job: str, stage: Stage) -> str:
    """The name of a stage's Job."""
    return child_name(job, stage.suffix)


def _files(order: Order, stage: Stage) -> dict[str, str]:
    """What the pod reads as files. Annotations of a Job's template can't change, unlike a ConfigMap."""
    config = {CONFIG_ANNOTATION: canonical_json(order.config(stage).to_api())}
    return config | ({CA_ANNOTATION: order.gateway.ca} if order.gateway else {})


def _failure_rules() -> list[dict[str, Any]]:
    """In order: a disrupted pod is free whatever its exit code, then the trainer's own codes; the rest counts."""
    mistakes = sorted([*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL])
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _exit_codes(FREE_EXIT_CODES)},
        {"action": "FailJob", "onExitCodes": _exit_codes(mistakes)},
    ]


def _exit_codes(codes: list[int]) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": codes}


def _owner(order: Order) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": order.metadata.name,
        "uid": order.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
