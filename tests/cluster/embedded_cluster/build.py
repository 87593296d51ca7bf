"""Builds Kubernetes, CoreDNS and the tests' S3 server from their Go modules, once for each content of those modules.

Needs Python's standard library and Go only, so that it can run before any virtual environment exists.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster.errors import ClusterError
from embedded_cluster.lock import locked
from embedded_cluster.process import last_lines
from embedded_cluster.state import State

MODULES = Path(__file__).resolve().parent.parent
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
VERSION_VARIABLES = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Module:
    """A Go module below tests/cluster. ``package`` becomes one binary, with a link for each name in ``links``."""

    name: str
    links: Sequence[str] = ()
    linker_flags: Sequence[str] = ("-s", "-w")
    package: str = "."  # with a main; another module's where go.mod names it as a tool

    @property
    def folder(self) -> Path:
        return MODULES / self.name

    def digest(self) -> str:
        """SHA-256 of all that decides what is built: the module's files, the linker flags and the package."""
        sha256 = hashlib.sha256(" ".join((*self.linker_flags, *self.package.removeprefix(".").split())).encode())
        for path in sorted([*self.folder.glob("*.go"), self.folder / "go.mod", self.folder / "go.sum"]):
            content = path.read_bytes()
            sha256.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
        return sha256.hexdigest()


@dataclass(frozen=True)
class Binaries:
    """Folders of what was built: ``kubernetes`` holds a link for each of ``COMPONENTS``."""

    kubernetes: Path
    coredns: Path

    def __getitem__(self, name: str) -> Path:
        return self.coredns / name if name == "coredns" else self.kubernetes / name


def version_flags(go_mod: str) -> list[str]:
    """Linker flags that make the components report the version that ``go_mod`` requires.

    Without them they say v0.0.0-master, which clients and the kubelet's version checks refuse.

    Raises:
        ClusterError: ``go_mod`` requires no k8s.io/kubernetes.
    """
    found = re.search(r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)$", go_mod, re.MULTILINE)
    if not found:
        raise ClusterError("go.mod requires no k8s.io/kubernetes: its version can't be stamped into the binary")
    values = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3], "gitTreeState": "clean"}
    return [word for key, value in values.items() for word in ("-X", f"{VERSION_VARIABLES}.{key}={value}")]


S3_SERVER = Module("versitygw", package="github.com/versity/versitygw/cmd/versitygw")


def modules() -> tuple[Module, Module]:
    versions = version_flags((MODULES / "kubernetes/go.mod").read_text())
    return Module("kubernetes", COMPONENTS, ("-s", "-w", *versions)), Module("coredns")


def build(state: State, report: Callable[[str], None] = print) -> Binaries:
    """Builds what ``state.cache`` does not hold yet and returns where it is.

    Raises:
        ClusterError: Go is missing, or a build failed; the message ends with the compiler's last lines.
    """
    kubernetes, coredns = (_build(state, module, report) for module in modules())
    return Binaries(kubernetes, coredns)


def build_s3_server(state: State, report: Callable[[str], None] = print) -> Path:
    """The program of the S3 server that tests of sources run against. Raises ClusterError as :func:`build` does."""
    return _build(state, S3_SERVER, report) / S3_SERVER.name


def _build(state: State, module: Module, report: Callable[[str], None]) -> Path:
    folder = state.cache / "bin" / f"{module.name}-{module.digest()[:12]}"
    with locked(state.cache / "bin" / f"{module.name}.lock"):
        if folder.exists():
            report(f"{module.name}: found in {folder}")
            return folder
        started = time.monotonic()
        report(f"{module.name}: building with Go (minutes when Go's own cache is cold)")
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _compile(module, part / module.name, state.log / f"build-{module.name}.log")
        for link in module.links:
            (part / link).symlink_to(module.name)
        part.rename(folder)
        report(f"{module.name}: built in {time.monotonic() - started:.0f} s into {folder}")
    return folder


def _compile(module: Module, output: Path, log: Path) -> None:
    if shutil.which("go") is None:
        raise ClusterError("go is not on the PATH: install Go 1.25 or newer (https://go.dev/dl)")
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(module.linker_flags)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(
            ["go", "build", *flags, "-o", output, module.package],
            cwd=module.folder,
            env=os.environ | {"CGO_ENABLED": "0"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        raise ClusterError(f"go build of {module.name} failed; the last lines of {log}:\n{last_lines(log)}")
