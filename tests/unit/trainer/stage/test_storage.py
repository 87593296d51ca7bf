"""An output claim is tried out before anything is loaded: rights, renames, room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage.storage import check_destination, check_room, size_of
from trainer_inputs import refusal

URI = "pvc://work/out"


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_good_destination_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    check_destination(tmp_path / "a" / "b", URI)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_a_killed_attempt_left_of_its_probe_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    for name in (".probe-killed", ".probe-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_bytes(b"probe")
    os.utime(tmp_path / ".probe-killed", (0, 0))
    check_destination(tmp_path, "pvc://work/out")
    assert [entry.name for entry in tmp_path.iterdir()] == [".probe-alive"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EXDEV, errno.EACCES])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_system_that_refuses_renames_is_unsuitable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, what: str
) -> None:
    rename, replace = os.rename, os.replace

    def refuse(source: Any, target: Any, **options: Any) -> None:
        if Path(source).is_dir() == (what == "folder"):
            raise OSError(code, os.strerror(code), str(source))
        (rename if what == "file" else replace)(source, target, **options)

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StageError) as caught:
        check_destination(tmp_path, URI)
    failure = failure_of(caught.value)
    assert failure.reason == Reason.STORAGE_UNSUITABLE
    assert f"spec.output.destination {URI}: its file system refuses" in failure.message
    assert "whose file system renames files and folders" in failure.message
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_just_now_is_not_unsuitable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        check_destination(tmp_path, URI)


AS_ANOTHER_USER = """
import os, pathlib
from finetune_trainer.stage.storage import check_destination
from finetune_trainer.stage.failure import failure_of
os.setuid(65532)
try: check_destination(pathlib.Path("."), "pvc://work/out")
except Exception as error: print(failure_of(error).reason, failure_of(error).message)
"""


@pytest.mark.parametrize("options", ["ro", "size=8m,mode=0555"])
def test_a_volume_that_the_pods_user_may_not_write_to_is_told_with_what_opens_it(tmp_path: Path, options: str) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        command = [sys.executable, "-c", AS_ANOTHER_USER]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert done.stdout.startswith("StorageUnsuitable spec.output.destination pvc://work/out can't be written")
    assert "set fsGroup in the profile" in done.stdout


def test_a_file_in_the_way_is_the_specs_fault(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert "is no folder" in refusal(lambda: check_destination(tmp_path / "out" / "deep", URI), Reason.INVALID_SPEC)


def test_a_volume_with_too_little_room_is_told_with_both_sizes(small_volume: Path) -> None:
    check_room(small_volume, 7 << 20, URI)
    (small_volume / "taken").write_bytes(bytes(4 << 20))
    text = refusal(lambda: check_room(small_volume, 7 << 20, URI), Reason.STORAGE_FULL)
    assert text == f"spec.output.destination {URI} has 4.0 MiB free, and the run will write up to 7.0 MiB"


def test_the_size_of_folders_is_that_of_their_files_whether_they_are_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "file").write_bytes(bytes(3))
    (tmp_path / "one" / "deep" / "file").write_bytes(bytes(4))
    assert size_of(tmp_path / "one", tmp_path / "none") == 7


def test_a_volume_that_is_full_to_the_last_byte_is_full(small_volume: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_volume / "taken").write_bytes(bytes(9 << 20))
    with pytest.raises(OSError, match="No space left") as caught:
        check_destination(small_volume, URI)
    assert failure_of(caught.value).reason == Reason.STORAGE_FULL


def test_a_file_system_without_a_size_is_not_asked_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    check_room(tmp_path, 1 << 40, URI)
