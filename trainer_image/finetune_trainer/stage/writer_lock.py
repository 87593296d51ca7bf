"""One writer per folder: a lock file that the kernel frees with its process, and a heartbeat for those it can't reach.

``flock`` tells at once whether the writer lives, on one node and on network file systems that pass locks on. Where it
stays on its own node, another node sees the lock file's time advance instead: both writers keep it fresh.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import ApiModel
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

WRITER = ".writer"
BEAT_SECONDS = 5.0
# A writer of another node that was seen alive less than this ago is watched for as long before it counts as gone.
WATCH_SECONDS = 20.0
# Between taking the lock and writing its name a writer needs less than this.
_NAMING_SECONDS = 0.05
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK)
_held: set[WriterLock] = set()


class Writer(ApiModel):
    """Who writes to a folder, as the lock file says."""

    job_uid: str = ""
    host: str = ""  # this boot of the node's kernel
    token: str = ""  # of one attempt


class WriterLock:
    """This process's right to write to a folder. Keeps it visible until :meth:`release`."""

    def __init__(self, path: Path, handle: int, writer: Writer, beat_seconds: float) -> None:
        self.path = path
        self._handle = handle
        self._writer = writer
        self._ended = threading.Event()
        self._beat_seconds = beat_seconds
        threading.Thread(target=self._beat, name="writer-lock", daemon=True).start()
        _held.add(self)

    def confirm(self) -> None:
        """Raises StageError (FolderBusy) when another writer took the folder over, as after a long pause of ours."""
        try:
            token = _read(self.path).token
        except OSError:
            token = ""
        if token != self._writer.token:
            raise StageError(Reason.FOLDER_BUSY, f"another pod took {self.path.parent} over while this one stood still")

    def release(self) -> None:
        """Gives the folder free and removes the lock file."""
        if self._ended.is_set():
            return
        self._ended.set()
        _held.discard(self)
        try:
            if _read(self.path).token == self._writer.token:
                self.path.unlink()
        except OSError:
            pass  # taken over, or removed with its folder
        os.close(self._handle)

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            try:
                os.utime(self.path)
            except OSError:  # without a heartbeat the kernel's lock still holds
                continue


def take(
    folder: Path, job_uid: str, watch_seconds: float = WATCH_SECONDS, beat_seconds: float = BEAT_SECONDS
) -> WriterLock | Writer:
    """The lock of a folder that exists, or the living writer who has it."""
    path = folder / WRITER
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            locked = _lock(handle)
            if locked is False:
                earlier = _read(path)
                time.sleep(_NAMING_SECONDS)
                if earlier.token and _read(path) == earlier:
                    return earlier
                continue  # the file still named nobody, or the one before
            if not _is_file_at(handle, path):  # its writer removed it between our two calls
                os.close(handle)
                handle = -1
                continue
            earlier = _read(path)
            # The kernel has just said that no process of this node holds it.
            gone = not earlier.token or (locked is True and earlier.host == _host())
            if not gone and _advances(path, watch_seconds):
                return earlier
            writer = Writer(job_uid=job_uid, host=_host(), token=secrets.token_hex(8))
            os.ftruncate(handle, 0)
            os.pwrite(handle, writer.model_dump_json(by_alias=True).encode(), 0)
            os.fsync(handle)
            lock, handle = WriterLock(path, handle, writer, beat_seconds), -1
            return lock
        except FileNotFoundError:  # removed while it was read
            continue
        finally:
            if handle >= 0:
                os.close(handle)


def release_all() -> None:
    """For a process that ends at once, in a signal's handler."""
    for lock in list(_held):
        lock.release()


def _lock(handle: int) -> bool | None:
    """True: locked. False: another process has it. None: the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_file_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path) -> Writer:
    try:
        return Writer.model_validate_json(path.read_bytes())
    except ValidationError:  # just made, or cut off
        return Writer()


def _advances(path: Path, watch_seconds: float) -> bool:
    """Whether somebody keeps the lock file fresh. Times are compared on the file system's clock alone."""
    first = path.stat().st_mtime_ns
    with tempfile.NamedTemporaryFile(prefix=".clock-", dir=path.parent) as clock:
        age = (os.fstat(clock.fileno()).st_mtime_ns - first) / 1e9
    if age > watch_seconds:
        return False
    deadline = time.monotonic() + watch_seconds
    while time.monotonic() < deadline:
        time.sleep(min(0.2, watch_seconds / 10))
        if path.stat().st_mtime_ns != first:
            return True
    return False


def _host() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename
