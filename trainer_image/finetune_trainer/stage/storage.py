"""Whether a claim can take what a run will write: asked before anything is loaded."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import PASSING, StageError

DESTINATION, CHECKPOINT_CLAIM = "spec.output.destination", "spec.training.checkpoint.claimName"
_PROBE = ".probe-"
# A probe lasts for a moment. One this much older than another is a killed attempt's.
_STALE_SECONDS = 600
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# Everything else is what the file system refuses for good.
_PASSING = (*PASSING, errno.ENOSPC, errno.EDQUOT)
_OPEN_IT = (
    "have the administrator set fsGroup in the profile, or mount the claim read-write; then apply under a new name"
)


def check_destination(folder: Path, uri: str, field: str = DESTINATION) -> None:
    """Makes the destination and tries on it all that saving does: write, sync, rename and replace files and folders.

    Raises StageError: InvalidSpec when a file is in the way, StorageUnsuitable when the pod's user may not write there
    or the file system refuses one of these, StorageFull when nothing more fits.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = Path(tempfile.mkdtemp(prefix=_PROBE, dir=folder))
    except (FileExistsError, NotADirectoryError) as error:
        raise StageError(Reason.INVALID_SPEC, f"{field} {uri} is no folder: {error}") from error
    except OSError as error:
        if error.errno not in _CLOSED:
            raise
        text = f"{field} {uri} can't be written by this pod's user: {error}"
        raise StageError(Reason.STORAGE_UNSUITABLE, text, _OPEN_IT) from error
    _remove_stale(probe)
    try:
        _try_out(probe)
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise StageError(
            Reason.STORAGE_UNSUITABLE,
            f"{field} {uri}: its file system refuses what saving an adapter needs: {error}",
        ) from error
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _remove_stale(probe: Path) -> None:
    """Removes what killed attempts left beside a probe, by the file system's own clock."""
    now = probe.stat().st_mtime
    for other in probe.parent.glob(f"{_PROBE}*"):
        with suppress(OSError):  # gone already, or not ours to remove
            if other.stat().st_mtime < now - _STALE_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def _try_out(probe: Path) -> None:
    old, new = probe / "old", probe / "new"
    for file in (old, new):
        with file.open("wb") as stream:
            stream.write(b"probe")
            stream.flush()
            os.fsync(stream.fileno())
    new.replace(old)
    draft = probe / "draft"
    draft.mkdir()
    (draft / "file").write_bytes(b"probe")
    draft.rename(probe / "folder")
    (probe / "folder" / "file").unlink()
    (probe / "folder").rmdir()


def check_room(folder: Path, needed_bytes: int, uri: str, field: str = DESTINATION) -> None:
    """Raises StageError (StorageFull), with both sizes, when a folder's file system has less room than is needed."""
    state = os.statvfs(folder)
    if not state.f_blocks:  # a file system without a size of its own
        return
    free = state.f_bavail * state.f_frsize
    if free < needed_bytes:
        raise StageError(
            Reason.STORAGE_FULL,
            f"{field} {uri} has {_size(free)} free, and the run will write up to {_size(needed_bytes)}",
            "enlarge or clear the claim, or lower lora.rank; then apply under a new name",
        )


def size_of(*folders: Path) -> int:
    """Bytes of all files in folders, which need not be there."""
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
