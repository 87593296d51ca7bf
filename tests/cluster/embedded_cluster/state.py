"""Where the embedded cluster keeps everything: one folder, so that nothing is left elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DEFAULT_ROOT = Path("/var/lib/finetune-operator")


@dataclass(frozen=True)
class State:
    """The folders below ``root``.

    ``cache`` (built binaries, images) and ``volumes`` (hostPath volumes) survive ``down``; ``run`` (pid files, sockets,
    certificates, etcd's data, kubeconfig) does not; ``log`` holds one file a component.
    """

    root: Path

    @classmethod
    def default(cls) -> Self:
        """``FINETUNE_STATE_DIR``, or /var/lib/finetune-operator."""
        return cls(Path(os.environ.get("FINETUNE_STATE_DIR") or DEFAULT_ROOT).absolute())

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.run / "kubeconfig"

    @property
    def binaries(self) -> Path:
        """The folder with kubectl and the other components, while the cluster is up."""
        return self.run / "bin"

    @property
    def image_references(self) -> Path:
        """Which images the registry in ``cache`` holds; written by the image build, so ``down`` leaves it."""
        return self.run / "images.json"
