"""Which cluster is meant: the embedded one, or with CLUSTER=current the one that kubectl points at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster.errors import ClusterError
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.state import State

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Target:
    """A cluster to install in."""

    state: State
    embedded: bool
    kubeconfig: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Target:
        """Reads CLUSTER (embedded or current) and, for the current one, KUBECONFIG. Raises ClusterError otherwise."""
        state, kind = State.default(), environment.get("CLUSTER", "embedded")
        if kind == "embedded":
            return cls(state, True, state.kubeconfig)
        if kind != "current":
            raise ClusterError(f"CLUSTER={kind}: must be embedded or current")
        if not environment.get("REGISTRY"):
            raise ClusterError("CLUSTER=current needs REGISTRY=<host>/<path>, which the cluster can pull from")
        return cls(state, False, Path(environment.get("KUBECONFIG") or Path.home() / ".kube/config"))

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for this cluster: the embedded cluster's own, or the one on PATH."""
        own = self.state.binaries / "kubectl"
        binary = own if self.embedded else Path(shutil.which("kubectl") or own)
        return Kubectl(binary, self.kubeconfig)

    def images(self) -> dict[str, str]:
        """References by digest of the images that were last pushed. Raises ClusterError when there are none."""
        path = self.state.image_references
        if not path.exists():
            raise ClusterError("no images were pushed yet: run make images")
        references: dict[str, str] = json.loads(path.read_text())
        return references
