"""The two programs that build an image from a Dockerfile, behind one small interface: buildah and docker."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from embedded_cluster.errors import ClusterError
from embedded_cluster.process import last_lines
from embedded_cluster.state import State

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
UV_CACHE_IN_BUILD = "/root/.cache/uv"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What ``build`` needs: the Dockerfile, the folder that it copies from, and the name of the result."""

    dockerfile: Path
    context: Path
    reference: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Builder(ABC):
    """Builds, keeps and pushes images by their local reference, such as ``localhost/pause:1f2e3d``."""

    state: State

    @abstractmethod
    def build(self, request: BuildRequest, log: Path) -> None:
        """Builds ``request``; what the builder prints goes to ``log``.

        Raises:
            ClusterError: the build failed; the message ends with the last lines of ``log``.
        """

    @abstractmethod
    def push(self, reference: str, destination: str) -> str:
        """Pushes to ``destination`` (``host[:port]/path:tag``) and returns the digest ``sha256:…`` that it got.

        Raises:
            ClusterError: the registry refused it or does not answer.
        """

    @abstractmethod
    def tags(self, repository: str) -> set[str]:
        """The tags of ``repository`` (``localhost/pause``) that are here."""

    @abstractmethod
    def remove(self, references: Iterable[str]) -> None:
        """Removes images with all layers that no other image uses, and what killed builds of ours left behind.

        Call it only while nothing is built.
        """

    def has(self, reference: str) -> bool:
        repository, _, tag = reference.rpartition(":")
        return tag in self.tags(repository)

    def size(self, reference: str) -> str:
        """Size of all layers as people read it: ``271 MB``."""
        return self._run("images", "--format", "{{.Size}}", reference)

    def _arguments(self, request: BuildRequest) -> list[str]:
        named = [f"--build-arg={key}={value}" for key, value in request.arguments.items()]
        return [*named, f"--file={request.dockerfile}", f"--tag={request.reference}", str(request.context)]

    def _run(self, *arguments: str, log: Path | None = None) -> str:
        """Standard output of the builder's command, or "" where ``log`` takes it."""
        command = [*self._program(), *arguments]
        if log is None:
            done = subprocess.run(command, env=self._environment(), capture_output=True, text=True)
            why = f":\n{done.stderr.strip()}"
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as file:
                done = subprocess.run(command, env=self._environment(), stdout=file, stderr=file, text=True)
            why = f"; the last lines of {log}:\n{last_lines(log)}"
        if done.returncode:
            raise ClusterError(f"{command[0]} {arguments[0]} failed{why}")
        return (done.stdout or "").strip()

    @abstractmethod
    def _program(self) -> list[str]: ...

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)


class Buildah(Builder):
    """Needs no daemon: Debian's buildah with a store of its own below ``cache``."""

    def build(self, request: BuildRequest, log: Path) -> None:
        options = ["--layers", "--isolation=chroot", "--network=host", *_host_mounts()]
        self._run("bud", *options, *self._arguments(request), log=log)

    def push(self, reference: str, destination: str) -> str:
        verify = "false" if destination.startswith(("127.", "localhost:")) else "true"
        options = ["--compression-format=zstd", "--compression-level=1", f"--tls-verify={verify}"]
        with NamedTemporaryFile("r") as file:
            self._run("push", *options, f"--digestfile={file.name}", reference, f"docker://{destination}")
            return file.read().strip()

    def tags(self, repository: str) -> set[str]:
        lines = self._run("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}").splitlines()
        return {tag for name, _, tag in (line.rpartition(":") for line in lines) if name == repository}

    def remove(self, references: Iterable[str]) -> None:
        self._run("rm", "--all")
        for reference in references:
            self._run("rmi", reference)
        self._run("rmi", "--prune")

    @property
    def _folder(self) -> Path:
        return self.state.cache / "containers"

    def _program(self) -> list[str]:
        return ["buildah", f"--root={self._folder / 'storage'}", f"--runroot={self._folder / 'run'}"]

    def _environment(self) -> dict[str, str]:
        (self._folder / "tmp").mkdir(parents=True, exist_ok=True)
        return os.environ | {"TMPDIR": str(self._folder / "tmp")}


class Docker(Builder):
    """The docker engine that is installed; images of others in it are left alone."""

    def build(self, request: BuildRequest, log: Path) -> None:
        self._run("build", "--network=host", *self._arguments(request), log=log)

    def push(self, reference: str, destination: str) -> str:
        self._run("tag", reference, destination)
        self._run("push", "--quiet", destination)
        repository = destination.rpartition(":")[0]
        digests = self._run("image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', destination).splitlines()
        return next(line.partition("@")[2] for line in digests if line.startswith(f"{repository}@"))

    def tags(self, repository: str) -> set[str]:
        return set(self._run("images", "--format", "{{.Tag}}", repository).splitlines())

    def remove(self, references: Iterable[str]) -> None:
        for reference in references:
            # By its id and forced, or the names that it was pushed under would keep it.
            self._run("rmi", "--force", self._run("image", "inspect", "--format", "{{.Id}}", reference))

    def _program(self) -> list[str]:
        return ["docker"]


def find_builder(state: State, name: str | None = None) -> Builder:
    """The builder called ``name``, or else the first that works here: buildah, then docker.

    Raises:
        ClusterError: none of them works.
    """
    if name == "buildah" or (name is None and os.geteuid() == 0 and shutil.which("buildah")):
        return Buildah(state)
    if name == "docker" or (name is None and _docker_answers()):
        return Docker(state)
    raise ClusterError("no image builder: apt-get install buildah (and be root), or start the docker engine")


def _docker_answers() -> bool:
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def _host_mounts() -> list[str]:
    """What a build may borrow from this machine; the result is the same without.

    The CA bundle that the machine is told to trust, where a proxy inspects TLS, and uv's cache.
    """
    bundle = os.environ.get("SSL_CERT_FILE")
    trust = [f"--volume={bundle}:{CA_BUNDLE}:ro"] if bundle else []
    return [*trust, f"--volume={_uv_cache()}:{UV_CACHE_IN_BUILD}", "--build-arg=UV_NO_CACHE=0"]


def _uv_cache() -> Path:
    """Where uv keeps what it downloads on this machine; made if missing, so that the next build finds it."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("UV_CACHE_DIR") or user_cache / "uv")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
