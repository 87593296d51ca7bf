"""The pod of a stage: what the user asks for and what the administrator's profile adds, under restricted security."""

from __future__ import annotations

from typing import Any

from finetune_api.credentials import secret_mount_path
from finetune_api.names import (
    CA_ANNOTATION,
    CA_FILE,
    CONFIG_ANNOTATION,
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    CONTAINER,
    TOKEN_DIRECTORY,
    TOKEN_FILE,
    claim_mount_path,
)
from finetune_api.runtime import RuntimeSpec
from finetune_api.sources import claims_written, secrets_read
from finetune_api.stages import Stage
from finetune_operator.workload.order import CACHE_DIRECTORY, Order, claims
from finetune_operator.workload.profile import Profile

TOKEN_SECONDS = 3600
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"

Objects = list[dict[str, Any]]


def pod_template(
    order: Order, stage: Stage, *, labels: dict[str, str], annotations: dict[str, str], arguments: list[str]
) -> dict[str, Any]:
    """The Job's pod template. Of the claims, only the output's is mounted for writing."""
    runtime, profile = order.spec.runtime, order.profile.profile
    volumes, mounts = _volumes(order, stage)
    return {
        "metadata": {"labels": labels, "annotations": {SAFE_TO_EVICT: "false", **annotations}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": profile.termination_grace_period_seconds,
            "securityContext": _pod_security(profile),
            **_placement(runtime, profile),
            "containers": [_container(runtime, profile, arguments, mounts)],
            "volumes": volumes,
        },
    }


def _container(runtime: RuntimeSpec, profile: Profile, arguments: list[str], mounts: Objects) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": profile.image,
        **_present(imagePullPolicy=profile.image_pull_policy),
        "args": arguments,
        "env": _environment(profile),
        "resources": _resources(runtime, profile),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # A trainer that is killed or crashes in native code writes no result: then its last log lines stand in.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _environment(profile: Profile) -> Objects:
    cache = [{"name": "HF_HOME", "value": f"{CACHE_DIRECTORY}/huggingface"}] if profile.cache_claim else []
    return [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *cache,
        *(variable.to_api() for variable in profile.env),
    ]


def _resources(runtime: RuntimeSpec, profile: Profile) -> dict[str, Any]:
    gpus = {profile.gpu_resource_name: str(runtime.gpus_per_node)} if runtime.gpus_per_node else {}
    return {"requests": dict(runtime.resources.requests), "limits": {**runtime.resources.limits, **gpus}}


def _pod_security(profile: Profile) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **_present(
            runAsUser=profile.run_as_user,
            fsGroup=profile.fs_group,
            # Without this the kubelet walks every file of a large claim at each start.
            fsGroupChangePolicy=None if profile.fs_group is None else "OnRootMismatch",
        ),
    }


def _placement(runtime: RuntimeSpec, profile: Profile) -> dict[str, Any]:
    tolerations = [toleration.to_api() for toleration in (*runtime.tolerations, *profile.tolerations)]
    return _present(
        nodeSelector={**runtime.node_selector, **profile.node_selector} or None,
        tolerations=tolerations or None,
        affinity=profile.affinity,
        runtimeClassName=profile.runtime_class_name,
        serviceAccountName=profile.service_account_name,
        imagePullSecrets=[{"name": name} for name in profile.image_pull_secrets] or None,
    )


def _volumes(order: Order, stage: Stage) -> tuple[Objects, Objects]:
    profile, wanted, writable = order.profile.profile, claims(order.spec), claims_written(order.spec)
    volumes: Objects = [
        {"name": "config", "downwardAPI": {"items": _config_files(order)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: Objects = [
        {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if order.audience:
        volumes.append({"name": "token", "projected": {"sources": [_token(order.audience)]}})
        mounts.append({"name": "token", "mountPath": TOKEN_DIRECTORY, "readOnly": True})
    if profile.shm_size:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": profile.shm_size}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    for number, secret in enumerate(secrets_read(order.spec, stage)):
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": secret}})
        mounts.append({"name": f"secret-{number}", "mountPath": secret_mount_path(secret), "readOnly": True})
    mounted = list(dict.fromkeys([*wanted, *([profile.cache_claim] if profile.cache_claim else [])]))
    # A claim's name may be longer than a volume's, so volumes are numbered.
    names = {claim: f"claim-{number}" for number, claim in enumerate(mounted)}
    volumes += [{"name": names[claim], "persistentVolumeClaim": {"claimName": claim}} for claim in mounted]
    mounts += [
        {"name": names[claim], "mountPath": claim_mount_path(claim), **_present(readOnly=claim not in writable or None)}
        for claim in wanted
    ]
    if profile.cache_claim:
        mounts.append({"name": names[profile.cache_claim], "mountPath": CACHE_DIRECTORY})
    return volumes, mounts


def _config_files(order: Order) -> Objects:
    files = {CONFIG_FILE: CONFIG_ANNOTATION} | ({CA_FILE: CA_ANNOTATION} if order.gateway else {})
    return [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in files.items()
    ]


def _token(audience: str) -> dict[str, Any]:
    return {"serviceAccountToken": {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE}}


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that are set: absent, never null."""
    return {name: value for name, value in fields.items() if value is not None}
