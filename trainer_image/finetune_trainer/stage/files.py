"""Writing so that a kill leaves either the old or the new, never a half."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from finetune_api.base import ApiModel

MANIFEST = "manifest.json"
Check = Callable[[Path], bool]


class ManifestFile(ApiModel):
    """One file of a folder."""

    sha256: str
    size_bytes: int


class Manifest(ApiModel):
    """Every file of a folder and its sub-folders except the manifest itself, by path such as ``sub/file``."""

    files: dict[str, ManifestFile] = Field(min_length=1)


@dataclass(frozen=True)
class Damage:
    """A file that is not what its folder's manifest says."""

    file: str
    then: str  # its SHA-256 in the manifest
    now: str | None  # None: it is not there


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step, on disk before it returns."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def new_folder(path: Path, rescue: Path | None = None, is_worth_keeping: Check = lambda _: False) -> Iterator[Path]:
    """Gives a draft folder; when the block ends well, it gets a manifest and takes the place of ``path``.

    When it ends badly, the draft is removed, unless it is worth keeping: then it becomes ``rescue``.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield draft
        # A tokenizer with several chat templates writes a sub-folder.
        files = sorted(entry for entry in draft.rglob("*") if entry.is_file())
        manifest = Manifest(files={file.relative_to(draft).as_posix(): _describe(file) for file in files})
        write_text(draft / MANIFEST, manifest.model_dump_json(by_alias=True, indent=2) + "\n")
        for entry in (draft, *draft.rglob("*")):
            entry.chmod(0o755 if entry.is_dir() else 0o644)  # readable for whoever serves the adapter
        _replace_folder(draft, path)
    except Exception:
        if rescue and is_worth_keeping(draft):
            _replace_folder(draft, rescue)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Removes what a killed attempt left behind."""
    for draft in folder.glob(".*-*"):
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder whose files are all as it says; None for one that is missing or damaged."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        whole = all(_describe(folder / name, sync=False) == file for name, file in manifest.files.items())
    except (OSError, ValidationError):
        return None
    return manifest if whole else None


def damage_of(folder: Path) -> Damage | None:
    """The first file that is not as the folder's manifest says, if any.

    Raises OSError or ValueError for a folder without a manifest.
    """
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    for name, file in manifest.files.items():
        path = folder / name
        found = sha256_of_file(path) if path.is_file() else None
        if found != file.sha256:
            return Damage(name, file.sha256, found)
    return None


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(path: Path, sync: bool = True) -> ManifestFile:
    if sync:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return ManifestFile(sha256=sha256_of_file(path), size_bytes=path.stat().st_size)


def _replace_folder(draft: Path, path: Path) -> None:
    if path.exists():  # a folder can't be replaced in one step: an earlier object's goes first
        retired = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        path.rename(retired / path.name)
        draft.rename(path)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        draft.rename(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems can't sync a folder
    finally:
        os.close(handle)
