"""From exceptions to reasons, and files that are whole or not there."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from finetune_api.reasons import FAILURES, Reason
from finetune_api.results import MAX_LOG, MAX_MESSAGE
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage.files import MANIFEST, new_folder, read_manifest, remove_drafts, write_text


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's own."""


@pytest.mark.parametrize(
    ("error", "reason", "code", "words"),
    [
        (StageError(Reason.INVALID_SPEC, "odd", "do this"), Reason.INVALID_SPEC, 64, "odd; do this"),
        (StageError(Reason.DATASET_INVALID, "row 7"), Reason.DATASET_INVALID, 67, "row 7; mend the named row"),
        (OutOfMemoryError("CUDA out of memory. Tried"), Reason.OUT_OF_MEMORY, 69, "GPU memory ran out"),
        (RuntimeError("CUDA out of memory"), Reason.OUT_OF_MEMORY, 69, "lower microBatchSize"),
        (RuntimeError("CUDA error: out of memory"), Reason.OUT_OF_MEMORY, 69, "GPU memory ran out: CUDA error"),
        (RuntimeError("CUDA driver error: out of memory"), Reason.OUT_OF_MEMORY, 69, "GPU memory ran out: CUDA driver"),
        (
            ValueError("Unsloth: big does not fit in GPU memory (cuda:0 has 1.00 GB free), so transformers placed …"),
            Reason.OUT_OF_MEMORY,
            69,
            "big does not fit in GPU memory (cuda:0 has 1.00 GB free); take a smaller model or a larger GPU",
        ),
        (MemoryError("out of memory"), Reason.OUT_OF_MEMORY, 69, "host memory ran out"),
        (MemoryError(), Reason.OUT_OF_MEMORY, 69, "resources.limits.memory"),
        (OSError(errno.ENOSPC, "No space left on device"), Reason.STORAGE_FULL, 71, "enlarge or clear"),
        (RuntimeError("I/O error: No space left on device"), Reason.STORAGE_FULL, 71, "no space left"),
        (KeyboardInterrupt(), Reason.INTERRUPTED, 75, "stopped by Ctrl-C; run it again: "),
        (ZeroDivisionError("division by zero"), Reason.TRAINER_CRASHED, 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_exception_becomes_a_reason_an_exit_code_and_advice(
    error: BaseException, reason: Reason, code: int, words: str
) -> None:
    failure = failure_of(error)
    assert (failure.reason, failure.exit_code) == (reason, code)
    assert words in failure.message


def test_a_known_failure_has_no_log_rather_than_an_empty_one() -> None:
    assert "log" not in failure_of(StageError(Reason.DATASET_INVALID, "row 7")).to_api()


def test_the_cause_of_a_wrapped_exception_counts() -> None:
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert failure_of(wrapped).reason == Reason.STORAGE_FULL


def test_a_gpu_that_is_full_is_told_in_sizes_and_advice_without_pytorchs_own_hints() -> None:
    sizes = "CUDA out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total capacity of 79.18 GiB"
    error = OutOfMemoryError(f"{sizes}. If reserved but unallocated memory is large try setting …")
    assert failure_of(error).message == f"GPU memory ran out: {sizes}; {FAILURES[Reason.OUT_OF_MEMORY].advice}"


def test_advice_stays_whole_behind_a_message_that_is_cut() -> None:
    message = failure_of(StageError(Reason.DATASET_INVALID, "x" * 5000)).message
    assert message.endswith(f"x…; {FAILURES[Reason.DATASET_INVALID].advice}")
    assert len(message) == MAX_MESSAGE


def test_a_crash_carries_its_last_lines_and_stays_within_bounds() -> None:
    def deep(level: int) -> None:
        if not level:
            raise ValueError("x" * 5000)
        deep(level - 1)

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        deep(50)
    failure = failure_of(caught.value)
    assert len(failure.log or "") == MAX_LOG
    assert len(failure.message) <= MAX_MESSAGE


def test_a_folder_appears_whole_with_a_manifest_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "adapter"

    def half() -> None:
        with new_folder(target) as draft:
            (draft / "half").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as draft:
        (draft / "weights").write_text("whole")
    manifest = read_manifest(target)
    assert manifest
    assert list(manifest.files) == ["weights"]
    assert json.loads((target / MANIFEST).read_text())["files"]["weights"]["sizeBytes"] == 5


def test_files_in_sub_folders_stand_in_the_manifest_by_path_and_count_when_it_is_read(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with new_folder(target) as draft:
        (draft / "weights").write_text("whole")
        (draft / "additional_chat_templates").mkdir(mode=0o700)
        (draft / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    manifest = read_manifest(target)
    assert manifest
    assert sorted(manifest.files) == ["additional_chat_templates/tool_use.jinja", "weights"]
    assert (target / "additional_chat_templates").stat().st_mode & 0o777 == 0o755
    assert (target / "additional_chat_templates" / "tool_use.jinja").stat().st_mode & 0o777 == 0o644
    (target / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages}}")
    assert read_manifest(target) is None


def test_a_draft_that_is_worth_keeping_outlives_the_failure_to_finish_it(tmp_path: Path) -> None:
    target, rescue = tmp_path / "adapter", tmp_path / "adapter-unfinished"

    def half(kept: bool) -> None:
        with new_folder(target, rescue, lambda draft: kept and (draft / "weights").exists()) as draft:
            (draft / "weights").write_text("whole")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        half(kept=False)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # an earlier one makes room
        with pytest.raises(OSError, match="No space"):
            half(kept=True)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter-unfinished"]
    assert (rescue / "weights").read_text() == "whole"


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    for text in ("old", "new"):
        with new_folder(target) as draft:
            (draft / text).write_text(text)
    assert sorted(path.name for path in target.iterdir()) == [MANIFEST, "new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("damage", ["changed", "removed", "manifest"])
def test_a_damaged_folder_has_no_manifest_to_trust(tmp_path: Path, damage: str) -> None:
    target = tmp_path / "adapter"
    with new_folder(target) as draft:
        (draft / "weights").write_text("whole")
    if damage == "changed":
        (target / "weights").write_text("WHOLE")
    elif damage == "removed":
        (target / "weights").unlink()
    else:
        (target / MANIFEST).write_text("{}")
    assert read_manifest(target) is None


def test_what_a_killed_attempt_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".adapter-x1").mkdir()
    (tmp_path / ".result.json-x2").touch()
    (tmp_path / "adapter").mkdir()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_text_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
