"""Files on a claim, as a user reaches them: a loader pod, and ``kubectl cp``, which is tar over exec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_cluster.kubectl import Kubectl

LOADER = "loader"
MOUNT = "/claim"
FS_GROUP = 65532  # as in the default profile


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
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": FS_GROUP,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": LOADER,
                    "image": image,
                    "command": ["sleep", "infinity"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "claim", "mountPath": MOUNT}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


@dataclass(frozen=True)
class ClaimFiles:
    """The files of a claim that a loader pod holds open. Paths are relative to the claim."""

    kubectl: Kubectl
    namespace: str

    def execute(self, *command: str) -> str:
        """Runs a command in the loader pod, below the claim's mount path; returns its output."""
        return self.kubectl("-n", self.namespace, "exec", LOADER, "--", *command)

    def listing(self, path: str) -> dict[str, str]:
        """SHA-256 of the files below a folder, by path; empty when the folder is not there."""
        root = f"{MOUNT}/{path}/"
        arguments = ("find", root, "-type", "f", "-exec", "sha256sum", "{}", "+")
        found = self.kubectl.run("-n", self.namespace, "exec", LOADER, "--", *arguments)
        rows = (line.split("  ", 1) for line in found.stdout.splitlines()) if not found.returncode else ()
        return {name.removeprefix(root): digest for digest, name in rows}

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.execute("cat", f"{MOUNT}/{path}")

    def copy_in(self, folder: Path, path: str) -> None:
        """Copies a local folder to ``path``, leaving alone what is there already."""
        if self.listing(path) != _local_listing(folder):
            self.remove(path)
            self.kubectl("-n", self.namespace, "cp", str(folder), f"{LOADER}:{MOUNT}/{path}")

    def remove(self, path: str) -> None:
        """Removes a file or folder, if it is there."""
        self.execute("rm", "-rf", f"{MOUNT}/{path}")

    def copy_out(self, path: str, folder: Path) -> None:
        """Copies ``path`` to a local folder."""
        self.kubectl("-n", self.namespace, "cp", f"{LOADER}:{MOUNT}/{path}", str(folder))


@contextmanager
def claim_files(kubectl: Kubectl, namespace: str, claim: str, image: str) -> Iterator[ClaimFiles]:
    """Opens a claim through a loader pod, which ends with the block. Raises ClusterError when it does not start."""
    # One of a killed run may have ended, hold another claim or be about to restart.
    delete = ("-n", namespace, "delete", "pod", LOADER, "--ignore-not-found", "--grace-period=0", "--wait=true")
    kubectl(*delete)
    kubectl.apply([loader_pod(namespace, claim, image)])
    try:
        kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{LOADER}", "--timeout=300s")
        yield ClaimFiles(kubectl, namespace)
    finally:
        kubectl(*delete)


def load(
    kubectl: Kubectl, namespace: str, claim: str, image: str, folders: Mapping[str, Path], outdated: str = ""
) -> None:
    """Copies each folder to ``/<name>`` of the claim, and removes what is ``outdated`` there.

    Raises ClusterError when the pod or a copy fails.
    """
    with claim_files(kubectl, namespace, claim, image) as files:
        for name, folder in folders.items():
            files.copy_in(folder, name)
        if outdated:
            files.remove(outdated)


def _local_listing(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): _sha256(path) for path in folder.rglob("*") if path.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
