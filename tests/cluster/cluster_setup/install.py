"""Installs manifests/overlays/demo with the images that were built here, by ``kubectl apply -k`` like any user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster_setup.load import FS_GROUP
from cluster_setup.target import REPOSITORY, Target

DEMO_NAMESPACE = "finetune-demo"
SYSTEM_NAMESPACE = "finetune-system"
CLAIM = "models"
VOLUME = "finetune-demo-models"
DEPLOYMENTS = ("finetune-operator", "finetune-gateway")


def overlay(folder: Path, base: Path, images: Mapping[str, str], volume: Path | None) -> dict[str, Any]:
    """A kustomization in ``folder`` on top of ``base``: images by digest, and the hostPath volume's folder if any."""
    operator, digest = images["finetune-operator"].split("@")
    profile = yaml.safe_dump({"image": images["finetune-trainer"], "fsGroup": FS_GROUP, "shmSize": "1Gi"})
    patches: list[dict[str, Any]] = [
        {
            "target": {"kind": "ConfigMap", "name": "finetune-profile-default"},
            "patch": yaml.safe_dump([{"op": "replace", "path": "/data/profile.yaml", "value": profile}]),
        }
    ]
    if volume is not None:
        operation = {"op": "replace", "path": "/spec/hostPath/path", "value": str(volume)}
        patches.append({"target": {"kind": "PersistentVolume", "name": VOLUME}, "patch": yaml.safe_dump([operation])})
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base, folder)],
        "images": [{"name": "finetune-operator", "newName": operator, "digest": digest}],
        "patches": patches,
    }


def install(target: Target) -> None:
    """Applies the demo overlay and waits until operator and gateway are ready. Raises ClusterError."""
    volume = make_volume(target) if target.embedded else None
    folder = target.state.run / "install"
    folder.mkdir(parents=True, exist_ok=True)
    base = REPOSITORY / "manifests/overlays" / ("demo-embedded" if target.embedded else "demo")
    kustomization = overlay(folder.resolve(), base, target.images(), volume)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization, sort_keys=False))
    target.kubectl("apply", "--server-side", "-k", str(folder))
    for deployment in DEPLOYMENTS:
        target.kubectl("-n", SYSTEM_NAMESPACE, "rollout", "status", f"deployment/{deployment}", "--timeout=180s")


def make_volume(target: Target) -> Path:
    """The claim's folder on the embedded node. Open to any UID, since fsGroup does nothing on hostPath."""
    folder = target.state.volumes / VOLUME
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


def main() -> None:
    """Installs in the cluster that the environment names."""
    install(Target.from_environment())


if __name__ == "__main__":
    main()
