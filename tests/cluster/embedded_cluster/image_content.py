"""Which container images there are, and the tag of each: a hash of all that decides what is in it."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = Path("tests/cluster/images")
TAG_LENGTH = 16
COPY = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image. Paths are relative to ``root``; ``alias`` is a second tag, which never changes.

    An image with a ``folder`` of its own is made of all that is in it; the others are built from the repository's root.
    """

    name: str
    dockerfile: Path
    folder: Path | None = None
    alias: str | None = None
    root: Path = REPOSITORY

    def content(self) -> list[Path]:
        """Files and folders that decide what is in the image: the Dockerfile and what it copies."""
        return [self.folder] if self.folder else [self.dockerfile, *self.copied()]

    def copied(self) -> list[Path]:
        """What the Dockerfile's COPY lines take from the build context."""
        sources = COPY.findall((self.root / self.dockerfile).read_text())
        return [Path(source) for line in sources for source in line.split()]

    def tag(self, base: str) -> str:
        """Hash of the content and of ``base``, the reference of the image below."""
        sha256 = hashlib.sha256(base.encode())
        for path in sorted({file for part in self.content() for file in _files(self.root / part)}):
            content = path.read_bytes()
            sha256.update(f"\0{path.relative_to(self.root)}\0{len(content)}\0".encode() + content)
        return sha256.hexdigest()[:TAG_LENGTH]


def _files(path: Path) -> Iterator[Path]:
    """The file ``path``, or all files below the folder ``path``, without what .dockerignore keeps out.

    Raises:
        FileNotFoundError: a Dockerfile copies what does not exist.
    """
    if not path.is_dir():
        yield path
        return
    yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


BASE = Image(name="base", dockerfile=FOLDER / "base/Dockerfile", folder=FOLDER / "base", alias="bookworm")
PAUSE = Image(name="pause", dockerfile=FOLDER / "pause/Dockerfile", folder=FOLDER / "pause", alias="1")
OPERATOR = Image(name="finetune-operator", dockerfile=Path("operator/Dockerfile"))
TRAINER = Image(name="finetune-trainer", dockerfile=Path("Dockerfile.trainer"))
IMAGES = {image.name: image for image in (BASE, PAUSE, OPERATOR, TRAINER)}
