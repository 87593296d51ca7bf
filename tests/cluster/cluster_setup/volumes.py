"""Volumes that a test makes beside the claim of the demo, and their end in the next run."""

from __future__ import annotations

from typing import Any

from embedded_cluster.kubectl import Kubectl

_LABEL = "finetune.dev/test-volume"


def empty_volume(claim: str, namespace: str, kind: str = "DirectoryOrCreate") -> list[dict[str, Any]]:
    """A hostPath volume and the claim that binds to it."""
    size = {"storage": "1Mi"}
    labels = {_LABEL: claim}
    volume = {
        "capacity": size,
        "accessModes": ["ReadWriteMany"],
        "storageClassName": claim,
        "claimRef": {"name": claim, "namespace": namespace},
        "hostPath": {"path": f"/tmp/finetune-test-{claim}", "type": kind},
    }
    wanted = {"accessModes": ["ReadWriteMany"], "storageClassName": claim, "resources": {"requests": size}}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"test-{claim}", "labels": labels},
            "spec": volume,
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace, "labels": labels},
            "spec": {**wanted, "volumeName": f"test-{claim}"},
        },
    ]


def remove_volumes(kubectl: Kubectl, namespace: str) -> None:
    """Removes those of an earlier run, once no pod mounts them. A test that waits for a claim would find it there."""
    kubectl("-n", namespace, "delete", "persistentvolumeclaims", "-l", _LABEL, "--wait=true")
    kubectl("delete", "persistentvolumes", "-l", _LABEL, "--wait=true")
