"""The pod that brings one file from a claim to whoever asks, through its log. Pure.

The plugin has the user's kubeconfig and no more, and a claim can be read by a pod only. The pod runs Python of the
evaluation's own image, so nothing is pulled that its node doesn't have. It mounts the claim read-only, prints the file
once, compressed and as text, and ends: its log can be read again where a stream would be lost, and it holds no
connection open that an exec or an attach needs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_api.job import FineTuneJob
from finetune_api.names import API_VERSION, KIND
from finetune_api.stages import EVALUATE
from finetune_api.uris import ClaimPath
from finetune_cli.errors import CliError

CONTAINER = "reader"
LIFETIME_SECONDS = 300  # after which the cluster ends a pod whose command died without deleting it
# A node keeps 10 MiB of a container's log. So much fits there in base64, even where nothing can be compressed.
MAX_BYTES = 6 * 2**20
_CLAIM = "/mnt/claim"
_TRAINER_USER = 65532
# What no time mends.
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "ImagePullBackOff", "CreateContainerConfigError")
_HEADER = re.compile(r"finetune-file (\d{1,9}) ([0-9a-f]{64})")
_END = "finetune-end"
_LOST = "finetune-lost "
# Needs no more than Python. Its arguments: the file.
SCRIPT = f"""
import base64, gzip, hashlib, sys
try:
    with open(sys.argv[1], "rb") as file:
        data = file.read({MAX_BYTES} + 1)
except OSError as error:
    sys.exit(print("{_LOST}" + (error.strerror or "it can't be read")) or 1)
if len(data) > {MAX_BYTES}:
    sys.exit(print("{_LOST}it is larger than {MAX_BYTES // 2**20} MiB") or 1)
print("finetune-file", len(data), hashlib.sha256(data).hexdigest())
text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
for start in range(0, len(text), 1000):
    print(text[start : start + 1000])
print("{_END}")
"""


@dataclass(frozen=True)
class Surroundings:
    """What of the evaluation's own pod a reader needs, too, to be admitted, placed and allowed to read."""

    image: str
    pod_security: Mapping[str, Any]
    pull_secrets: list[dict[str, Any]]
    tolerations: list[dict[str, Any]]


def surroundings_of(job: FineTuneJob, batch_job: Mapping[str, Any] | None) -> Surroundings:
    """From the evaluation's Job where it is still there, and else from what the status says of it.

    Raises CliError where neither names an image.
    """
    spec = ((batch_job or {}).get("spec") or {}).get("template", {}).get("spec", {})
    ran = job.status.stage_status(EVALUATE.name).lineage
    images = [one.get("image") for one in spec.get("containers", []) if one.get("name") == "trainer"]
    image = next((one for one in ((ran and ran.image), *images) if one), None)
    if image is None:
        raise CliError(f"{job.metadata.name}: its status names no image that could read the page")
    user = {"runAsNonRoot": True, "runAsUser": _TRAINER_USER, "seccompProfile": {"type": "RuntimeDefault"}}
    security = {key: value for key, value in (spec.get("securityContext") or user).items() if key != "fsGroup"}
    return Surroundings(image, security, spec.get("imagePullSecrets") or [], spec.get("tolerations") or [])


def reader_pod(name: str, job: FineTuneJob, file: ClaimPath, around: Surroundings) -> dict[str, Any]:
    """The pod. It belongs to the job, so that the cluster removes it with that at the latest."""
    small = {"cpu": "100m", "memory": "128Mi"}
    container = {
        "name": CONTAINER,
        "image": around.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "-c", SCRIPT, f"{_CLAIM}/{file.path}"],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": small},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "claim", "mountPath": _CLAIM, "readOnly": True}],
    }
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": job.metadata.name, "uid": job.metadata.uid}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": job.metadata.namespace,
            "labels": {"app.kubernetes.io/name": "finetune-reader"},
            "annotations": {"sidecar.istio.io/inject": "false"},
            "ownerReferences": [owner],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFETIME_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": dict(around.pod_security),
            "imagePullSecrets": around.pull_secrets,
            "tolerations": around.tolerations,
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": file.claim}}],
        },
    }


def unpack(log: str, what: str) -> bytes:
    """The file from the pod's log. Raises CliError for one that is missing, torn, or not what its digest says."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(_LOST):
            raise CliError(f"can't read {what}: {line.removeprefix(_LOST)}")
        if header := _HEADER.fullmatch(line):
            return _content(lines[number + 1 :], int(header[1]), header[2], what)
    raise CliError(f"the pod that should read {what} said nothing of it: {' '.join(log.split())[-300:] or 'no log'}")


def hindrance(pod: Mapping[str, Any]) -> str:
    """Why a pod doesn't run yet, in the cluster's words; empty where nothing is told."""
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or []:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if one.get("name") == CONTAINER and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message') or 'no message'}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason')}: {condition.get('message') or 'no message'}"
    return ""


def is_hopeless(told: str) -> bool:
    """Whether waiting longer is of no use, by what :func:`hindrance` says."""
    return told.startswith(_HOPELESS)


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether the reader has printed all that it will, whatever runs beside it."""
    status = pod.get("status") or {}
    states = [one.get("state") or {} for one in status.get("containerStatuses") or [] if one.get("name") == CONTAINER]
    return status.get("phase") == "Failed" or any("terminated" in state for state in states)


def _content(lines: list[str], size: int, digest: str, what: str) -> bytes:
    torn = CliError(f"what arrived of {what} is not whole: try again")
    if _END not in lines or size > MAX_BYTES:
        raise torn
    packed = "".join(lines[: lines.index(_END)])
    try:
        unpacked = zlib.decompressobj(wbits=31)  # of gzip, and never more than was announced
        data = unpacked.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise torn from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise torn
    return data
