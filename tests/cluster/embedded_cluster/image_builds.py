"""Builds the container images once for each content, and brings them into a registry."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster import registry
from embedded_cluster.builder import Builder, BuildRequest
from embedded_cluster.errors import ClusterError
from embedded_cluster.image_content import BASE, REPOSITORY, Image
from embedded_cluster.lock import locked
from embedded_cluster.process import last_lines
from embedded_cluster.state import State

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images for one registry.

    ``base_image`` is the image that they start from. Without it, those for the embedded registry start from a Debian
    that is made here, and those for any other registry from the public image that the Dockerfiles name.
    """

    state: State
    builder: Builder
    registry: str = registry.ADDRESS
    base_image: str | None = None
    report: Report = print

    @property
    def is_embedded(self) -> bool:
        return self.registry == registry.ADDRESS

    @property
    def base(self) -> str | None:
        """Reference of the image below; None for the Dockerfile's own default."""
        made_here = f"localhost/{BASE.name}:{BASE.tag('')}" if self.is_embedded else None
        return self.base_image or made_here

    def local_reference(self, image: Image) -> str:
        return f"localhost/{image.name}:{self.tag(image)}"

    def tag(self, image: Image) -> str:
        return image.tag("" if image is BASE else self.base or "")

    def build(self, image: Image) -> str:
        """Builds ``image``, and the base before it, unless it is here; returns its local reference.

        Raises:
            ClusterError: the build failed; the message ends with its last lines.
        """
        reference = self.local_reference(image)
        if image is not BASE and self.base == self.local_reference(BASE) and not self.builder.has(self.base):
            self.build(BASE)
        with locked(build_lock(self.state, image)):
            if self.builder.has(reference):
                self.report(f"{image.name}: found {reference}")
                return reference
            started = time.monotonic()
            self.report(f"{image.name}: building")
            self._build(image, reference)
            seconds = time.monotonic() - started
            self.report(f"{image.name}: built in {seconds:.0f} s, {self.builder.size(reference)}: {reference}")
        return reference

    def push(self, image: Image) -> str:
        """Brings ``image`` into the registry, building it if need be; returns ``registry/name@sha256:…``.

        Raises:
            ClusterError: the build failed, or the registry refused the image.
        """
        with locked(push_lock(self.state, image)):
            digest = self._pushed_digest(image)
            if digest:
                self.report(f"{image.name}: found {self.registry}/{image.name}:{self.tag(image)}")
            else:
                digest = self._push(image, self.build(image))
        return f"{self.registry}/{image.name}@{digest}"

    def _build(self, image: Image, reference: str) -> None:
        context = REPOSITORY / (image.folder or "")
        if image is BASE:
            context = _make_rootfs(self.state)
        arguments = {"BASE_IMAGE": self.base} if self.base and image is not BASE else {}
        request = BuildRequest(
            dockerfile=REPOSITORY / image.dockerfile, context=context, reference=reference, arguments=arguments
        )
        self.builder.build(request, self.state.log / f"build-image-{image.name}.log")
        if image is BASE:
            (context / "rootfs.tar").unlink()

    def _push(self, image: Image, reference: str) -> str:
        started = time.monotonic()
        self.report(f"{image.name}: pushing to {self.registry}")
        digest = ""
        for tag in filter(None, (self.tag(image), image.alias)):
            digest = self.builder.push(reference, f"{self.registry}/{image.name}:{tag}")
        size = f", {registry.compressed_bytes(image.name, digest) / 1e6:.0f} MB" if self.is_embedded else ""
        self.report(f"{image.name}: pushed in {time.monotonic() - started:.0f} s{size}: {digest}")
        return digest

    def _pushed_digest(self, image: Image) -> str | None:
        """The digest in the embedded registry; None where it must be pushed, or where another registry decides."""
        if not self.is_embedded:
            return None
        digest = registry.digest(image.name, self.tag(image))
        alias_is_right = image.alias is None or registry.digest(image.name, image.alias) == digest
        return digest if alias_is_right else None


def build_lock(state: State, image: Image) -> Path:
    """Held while ``image`` is built."""
    return state.cache / "images" / f"{image.name}.build.lock"


def push_lock(state: State, image: Image) -> Path:
    """Held while ``image`` is brought into a registry; taken before its build lock."""
    return state.cache / "images" / f"{image.name}.push.lock"


def _make_rootfs(state: State) -> Path:
    """Makes Debian's root file system and returns the folder that holds it as ``rootfs.tar``.

    Raises:
        ClusterError: not root, or debootstrap failed.
    """
    if os.geteuid() != 0:
        raise ClusterError("making the base image needs root: run as root, or set BASE_IMAGE")
    folder = state.cache / "images" / "base"
    folder.mkdir(parents=True, exist_ok=True)
    log = state.log / "build-image-rootfs.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        script = REPOSITORY / BASE.content()[0] / "rootfs.sh"
        done = subprocess.run([script, folder / "rootfs.tar"], stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ClusterError(f"making the base image failed; the last lines of {log}:\n{last_lines(log)}")
    return folder
