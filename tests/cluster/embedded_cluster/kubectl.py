"""Runs the cluster's own kubectl."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster.errors import ClusterError


@dataclass(frozen=True)
class Kubectl:
    """``kubectl`` bound to one kubeconfig."""

    binary: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs ``kubectl`` and returns its standard output.

        Raises:
            ClusterError: it exited with another status than 0; the message holds its standard error.
        """
        done = self.run(*arguments, stdin=stdin)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs ``kubectl`` and returns its exit status and output, whatever they are."""
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig)}
        command = [str(self.binary), *arguments]
        return subprocess.run(command, input=stdin or "", capture_output=True, text=True, env=environment)

    def apply(self, objects: Sequence[object], *arguments: str) -> None:
        """Applies Kubernetes objects; raises as a call does."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "-f", "-", *arguments, stdin=json.dumps(listing))
