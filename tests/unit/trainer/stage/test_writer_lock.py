"""One writer per folder, also where the file system's locks don't reach the other node."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from finetune_trainer.stage import writer_lock
from finetune_trainer.stage.writer_lock import WRITER, Writer, WriterLock, release_all, take

BRIEF = 0.5  # seconds to watch a heartbeat


def held(folder: Path, uid: str = "uid-1", beat_seconds: float = 0.02) -> WriterLock:
    lock = take(folder, uid, watch_seconds=BRIEF, beat_seconds=beat_seconds)
    assert isinstance(lock, WriterLock)
    return lock


def test_the_second_to_come_is_told_who_is_there(tmp_path: Path) -> None:
    lock = held(tmp_path, beat_seconds=60)
    started = time.monotonic()
    busy = take(tmp_path, "uid-2", watch_seconds=60)
    assert isinstance(busy, Writer)
    assert busy.job_uid == "uid-1"
    assert time.monotonic() - started < 10  # by the kernel's lock: nothing to watch
    lock.release()
    assert list(tmp_path.iterdir()) == []
    held(tmp_path, "uid-2").release()


@pytest.mark.parametrize("before", ["", Writer(job_uid="uid-0", token="of a dead one").model_dump_json(by_alias=True)])
def test_a_writer_that_has_yet_to_write_its_name_is_not_taken_for_nobody_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    (tmp_path / WRITER).write_text(before)
    name = Writer(job_uid="uid-1", host="here", token="of the living one").model_dump_json(by_alias=True)
    with (tmp_path / WRITER).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda seconds: (tmp_path / WRITER).write_text(name))
        found = take(tmp_path, "uid-2")
    assert isinstance(found, Writer)
    assert found.job_uid == "uid-1"


def test_all_locks_can_be_given_back_at_once_and_twice(tmp_path: Path) -> None:
    lock = held(tmp_path)
    release_all()
    assert list(tmp_path.iterdir()) == []
    lock.release()


def without_locks(code: int) -> object:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_where_there_are_no_locks_a_heartbeat_keeps_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(code))
    lock = held(tmp_path)
    assert isinstance(take(tmp_path, "uid-2", watch_seconds=BRIEF), Writer)
    lock.release()
    held(tmp_path, "uid-2").release()


def test_a_lock_that_stays_on_another_node_does_not_hide_that_its_writer_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_lock, "_host", lambda: "node-a")
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # as a mount with local locks answers on either node
    lock = held(tmp_path)
    monkeypatch.setattr(writer_lock, "_host", lambda: "node-b")
    assert isinstance(take(tmp_path, "uid-2", watch_seconds=BRIEF), Writer)
    lock.release()


def test_a_writer_of_another_node_whose_heartbeat_stopped_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / WRITER
    file.write_text(Writer(job_uid="uid-2", host="node-a", token="t").model_dump_json(by_alias=True))
    held(tmp_path).release()  # it was fresh, and watched
    file.write_text(Writer(job_uid="uid-2", host="node-a", token="t").model_dump_json(by_alias=True))
    os.utime(file, (time.time() - 3600, time.time() - 3600))
    started = time.monotonic()
    lock = take(tmp_path, "uid-1", watch_seconds=60)
    assert isinstance(lock, WriterLock)
    assert time.monotonic() - started < 10  # an hour old: not watched
    lock.release()


def test_a_writer_that_this_nodes_kernel_says_is_dead_is_not_watched(tmp_path: Path) -> None:
    writer = Writer(job_uid="uid-2", host=writer_lock._host(), token="t")
    (tmp_path / WRITER).write_text(writer.model_dump_json(by_alias=True))
    started = time.monotonic()
    lock = take(tmp_path, "uid-1", watch_seconds=60)
    assert isinstance(lock, WriterLock)
    assert time.monotonic() - started < 10
    lock.release()


def test_a_lock_file_that_was_replaced_while_it_was_opened_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = writer_lock._lock, list[int]()

    def late(handle: int) -> bool | None:
        if not calls:
            (tmp_path / WRITER).unlink()  # its writer ended, and the next one is just coming
            (tmp_path / WRITER).touch()
        calls.append(handle)
        return lock(handle)

    monkeypatch.setattr(writer_lock, "_lock", late)
    mine = held(tmp_path)
    mine.confirm()
    assert len(calls) == 2
    mine.release()


def test_of_many_that_come_at_once_one_gets_in(tmp_path: Path) -> None:
    answers: list[WriterLock | Writer] = []
    barrier = threading.Barrier(8)

    def come(number: int) -> None:
        barrier.wait()
        answers.append(take(tmp_path, f"uid-{number}"))

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    locks = [answer for answer in answers if isinstance(answer, WriterLock)]
    assert len(locks) == 1
    locks[0].release()
