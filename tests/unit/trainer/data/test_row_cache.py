"""Prepared rows of earlier runs: found whole or made anew, never in the way of a run."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from finetune_trainer.data.row_cache import KEPT, RowCache
from finetune_trainer.stage.files import MANIFEST


@pytest.fixture
def cache(tmp_path: Path) -> RowCache:
    return RowCache(tmp_path / "out" / "row-cache")


def add(cache: RowCache, key: str, text: str = "rows") -> Path | None:
    return cache.add(key, len(text), lambda draft: (draft / "rows").write_text(text))


def test_an_entry_is_found_again_by_its_key_alone(cache: RowCache) -> None:
    assert cache.find("key") is None
    entry = add(cache, "key")
    assert entry
    assert cache.find("key") == RowCache(cache.folder).find("key") == entry
    assert (entry / "rows").read_text() == "rows"
    assert cache.find("other") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "without a manifest"])
def test_a_damaged_or_half_entry_is_made_anew(cache: RowCache, damage: str) -> None:
    entry = add(cache, "key", "abc")
    assert entry
    if damage == "missing":
        (entry / "rows").unlink()
    elif damage == "without a manifest":
        (entry / MANIFEST).unlink()
    else:
        (entry / "rows").write_text("ab" if damage == "cut" else "abd")
    assert cache.find("key") is None
    again = add(cache, "key", "abc")
    assert again
    assert (again / "rows").read_text() == "abc"
    assert cache.find("key") == again


def test_a_writer_that_dies_leaves_no_entry(cache: RowCache) -> None:
    def die(draft: Path) -> None:
        (draft / "rows").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.add("key", 4, die)
    assert cache.find("key") is None


def test_two_writers_of_one_key_both_end_with_a_whole_entry(cache: RowCache) -> None:
    barrier, found = threading.Barrier(2), []

    def write() -> None:
        def slow(draft: Path) -> None:
            (draft / "rows").write_text("rows")
            barrier.wait(10)

        own = RowCache(cache.folder)
        found.append((own.add("key", 4, slow), own))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry for entry, _ in found] == [cache.folder / "key"] * 2
    assert (cache.folder / "key" / "rows").read_text() == "rows"


def test_a_folder_that_cannot_be_written_is_done_without_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "row-cache").write_text("a file in the way")
    assert add(RowCache(tmp_path / "row-cache"), "key") is None
    assert "prepared rows can't be kept in" in capsys.readouterr().out


def test_a_full_disk_is_done_without_and_said(cache: RowCache, capsys: pytest.CaptureFixture[str]) -> None:
    def full(draft: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    assert cache.add("key", 4, full) is None
    assert "No space left on device" in capsys.readouterr().out
    assert list(cache.folder.iterdir()) == []


def test_rows_that_would_leave_a_run_too_little_room_are_not_kept(
    cache: RowCache, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.folder.mkdir(parents=True)
    size = shutil.disk_usage(cache.folder).free // 3
    assert cache.add("key", size, lambda draft: (draft / "rows").write_text("rows")) is None
    assert "too little room beside what a run writes" in capsys.readouterr().out


def test_the_entries_used_last_are_kept_and_those_in_use_whatever_their_age(cache: RowCache) -> None:
    held = RowCache(cache.folder)
    assert add(held, "held")
    other = RowCache(cache.folder)
    for number in range(KEPT + 4):
        entry = add(other, f"key{number}")
        assert entry
        os.utime(entry / MANIFEST, (1000 + number, 1000 + number))
        other.close()
    os.utime(cache.folder / "held" / MANIFEST, (1, 1))
    assert add(other, "last")
    names = {entry.name for entry in cache.folder.iterdir()}
    assert {"held", "last", f"key{KEPT + 3}"} <= names
    assert "key0" not in names
    assert len(names) <= KEPT + 1
    held.close()
    other.close()
    assert add(other, "one more")
    assert "held" not in {entry.name for entry in cache.folder.iterdir()}


def test_drafts_of_killed_attempts_are_removed_once_they_are_old(cache: RowCache) -> None:
    cache.folder.mkdir(parents=True)
    for name in ("old", "new"):
        (cache.folder / f".{name}-draft").mkdir()
    os.utime(cache.folder / ".old-draft", (1, 1))
    assert add(cache, "key")
    assert sorted(entry.name for entry in cache.folder.iterdir()) == [".new-draft", "key"]
