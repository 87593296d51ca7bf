"""The pod of a stage: what the user asks for and what the administrator's profile adds, under restricted security."""

from __future__ import annotations

from typing import Any

from finetune_api.names import CONFIG_DIRECTORY, TOKEN_DIRECTORY, TOKEN_FILE, claim_mount_path
from finetune_api.runtime import RuntimeSpec
from finetune_operator.workload.profile import Profile

CONTAINER = "trainer"
CACHE_DIRECTORY = "/mnt/cache"
TOKEN_SECONDS = 3600
# Enough to leave a step and exit; the kubelet kills what takes longer.
GRACE_SECONDS = 60
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"

Objects = list[dict[str, Any]]


def pod_template(
    runtime: RuntimeSpec,
    profile: Profile,
    *,
    labels: dict[str, str],
    arguments: list[str],
    config_name: str,
    claims: list[str],
    writable: str,
    token_audience: str | None,
) -> dict[str, Any]:
    """The Job's pod template. ``writable`` is the one claim that is mounted for writing."""
    volumes, mounts = _volumes(profile, config_name, claims, writable, token_audience)
    return {
        "metadata": {"labels": labels, "annotations": {SAFE_TO_EVICT: "false"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
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
        nodeSelector={**profile.node_selector, **runtime.node_selector} or None,
        tolerations=tolerations or None,
        affinity=profile.affinity,
        runtimeClassName=profile.runtime_class_name,
        serviceAccountName=profile.service_account_name,
        imagePullSecrets=[{"name": name} for name in profile.image_pull_secrets] or None,
    )


def _volumes(
    profile: Profile, config_name: str, claims: list[str], writable: str, token_audience: str | None
) -> tuple[Objects, Objects]:
    volumes: Objects = [
        {"name": "config", "configMap": {"name": config_name}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: Objects = [
        {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if token_audience:
        volumes.append({"name": "token", "projected": {"sources": [_token(token_audience)]}})
        mounts.append({"name": "token", "mountPath": TOKEN_DIRECTORY, "readOnly": True})
    if profile.shm_size:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": profile.shm_size}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    mounted = list(dict.fromkeys([*claims, *([profile.cache_claim] if profile.cache_claim else [])]))
    # A claim's name may be longer than a volume's, so volumes are numbered.
    names = {claim: f"claim-{number}" for number, claim in enumerate(mounted)}
    volumes += [{"name": names[claim], "persistentVolumeClaim": {"claimName": claim}} for claim in mounted]
    mounts += [
        {"name": names[claim], "mountPath": claim_mount_path(claim), **_present(readOnly=claim != writable or None)}
        for claim in claims
    ]
    if profile.cache_claim:
        mounts.append({"name": names[profile.cache_claim], "mountPath": CACHE_DIRECTORY})
    return volumes, mounts


def _token(audience: str) -> dict[str, Any]:
    return {"serviceAccountToken": {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE}}


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that are set: absent, never null."""
    return {name: value for name, value in fields.items() if value is not None}
