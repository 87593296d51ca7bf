"""Copies local folders onto a claim as a user would: a loader pod, and ``kubectl cp``, which is tar over exec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedded_cluster.kubectl import Kubectl

LOADER = "loader"


def loader_pod(namespace: str, claim: str, image: str) -> dict[str, Any]:
    """A pod that holds a claim open and does nothing. Its image needs tar and sleep."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LOADER, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": LOADER,
                    "image": image,
                    "command": ["sleep", "infinity"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def load(kubectl: Kubectl, namespace: str, claim: str, image: str, folders: Mapping[str, Path]) -> None:
    """Copies each folder to ``/<name>`` of the claim, leaving alone what is there with the same files and sizes.

    Raises ClusterError when the pod does not start or a copy fails.
    """
    kubectl.apply([loader_pod(namespace, claim, image)])
    try:
        kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{LOADER}", "--timeout=300s")
        for name, folder in folders.items():
            if _listing(kubectl, namespace, name) != _local_listing(folder):
                kubectl("-n", namespace, "exec", LOADER, "--", "rm", "-rf", f"/claim/{name}")
                kubectl("-n", namespace, "cp", str(folder), f"{LOADER}:/claim/{name}")
    finally:
        kubectl("-n", namespace, "delete", "pod", LOADER, "--grace-period=0", "--wait=true")


def _listing(kubectl: Kubectl, namespace: str, name: str) -> dict[str, int]:
    found = kubectl.run(
        "-n", namespace, "exec", LOADER, "--", "find", f"/claim/{name}", "-type", "f", "-printf", r"%P\t%s\n"
    )
    if found.returncode:
        return {}
    rows = (line.rsplit("\t", 1) for line in found.stdout.splitlines())
    return {path: int(size) for path, size in rows}


def _local_listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
