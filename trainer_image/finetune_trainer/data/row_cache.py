"""Prepared rows of earlier runs, in a folder for each content: a second job, and a retry, start at once.

A folder is written as a draft, renamed, and verified by its manifest before it is used. Nothing here ends a run: what
can't be read is made anew, and what can't be written is done without.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from finetune_trainer.stage.console import say
from finetune_trainer.stage.files import MANIFEST, new_folder, read_manifest

KEPT = 16  # entries, those last used; a job has one of its rows and one of their overlap with held-out rows
_ROOM = 4  # times an entry's size that must be free
_ABANDONED = 6 * 3600  # seconds after which a draft is a killed attempt's


@dataclass
class RowCache:
    """A folder of entries. Those that were found or added are in use as long as this object lives."""

    folder: Path
    _held: list[int] = field(default_factory=list, repr=False)

    def find(self, key: str) -> Path | None:
        """The entry of a key, whole and in use from now on; None where there is none."""
        entry = self.folder / key
        with suppress(OSError):
            if entry.is_dir():
                self._hold(entry)
                if read_manifest(entry):
                    with suppress(OSError):
                        os.utime(entry / MANIFEST)
                    return entry
                say(f"prepared rows in {entry} are damaged: they are made anew")
        return None

    def add(self, key: str, size: int, fill: Callable[[Path], object]) -> Path | None:
        """Makes an entry of what ``fill`` writes into a folder, about ``size`` bytes.

        None, and a line in the log, where that can't be, or would leave the run too little room.
        """
        entry = self.folder / key
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_old()
            if shutil.disk_usage(self.folder).free < _ROOM * size:
                raise OSError(errno.ENOSPC, "there is too little room beside what a run writes")
            with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=self.folder) as drafts:
                made = Path(drafts) / key
                with new_folder(made) as draft:
                    fill(draft)
                self._put(made, entry)
        except OSError as error:
            if not read_manifest(entry):  # else another run was as fast
                say(f"prepared rows can't be kept in {self.folder}: {error.strerror or error}")
                return None
        return self.find(key)

    def _put(self, made: Path, entry: Path) -> None:
        """Moves an entry to its place, unless another run was as fast: a whole one is in use, perhaps, and as good."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not read_manifest(entry):
                shutil.rmtree(entry, ignore_errors=True)
                made.rename(entry)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Lets go of all entries."""
        while self._held:
            os.close(self._held.pop())

    def _hold(self, entry: Path) -> None:
        """Holds an entry against removal by others. File systems without locks have nobody to remove it, either."""
        handle = os.open(entry / MANIFEST, os.O_RDONLY)
        self._held.append(handle)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _remove_old(self) -> None:
        """Removes the entries that were used longest ago, but none in use, and drafts of killed attempts."""
        entries = [entry for entry in self.folder.iterdir() if entry.is_dir()]
        for draft in (entry for entry in entries if entry.name.startswith(".")):
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)
        whole = [entry for entry in entries if (entry / MANIFEST).is_file() and not entry.name.startswith(".")]
        whole.sort(key=lambda entry: (entry / MANIFEST).stat().st_mtime, reverse=True)
        for entry in whole[KEPT - 1 :]:
            if _is_free(entry):
                shutil.rmtree(entry, ignore_errors=True)


def _is_free(entry: Path) -> bool:
    try:
        handle = os.open(entry / MANIFEST, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
