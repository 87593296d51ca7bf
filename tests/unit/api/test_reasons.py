"""The table of reasons is whole, and its exit codes are clear of those of shells and Python."""

from __future__ import annotations

import pytest

from finetune_api import reasons


def test_every_reason_has_one_entry_and_exit_codes_are_unique_and_clear_of_shells() -> None:
    assert set(reasons.FAILURES) == set(reasons.Reason)
    assert len(reasons.FAILURES) == len(reasons._TABLE)
    codes = [entry.exit_code for entry in reasons._TABLE if entry.exit_code is not None]
    assert len(codes) == len(set(codes))
    assert all(code == 1 or 64 <= code < 126 for code in codes)
    assert not set(reasons.NEVER_EXIT_CODES) & set(reasons.FREE_EXIT_CODES)


def test_the_exit_codes_that_end_a_job_stay_what_running_jobs_were_made_with() -> None:
    assert reasons.NEVER_EXIT_CODES == [64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 77, 79, 80]
    assert reasons.FREE_EXIT_CODES == [75, 76]


def test_only_what_a_trainer_sees_has_an_exit_code() -> None:
    assert reasons.exit_code(reasons.Reason.OUT_OF_MEMORY) == 69
    with pytest.raises(ValueError, match="only the operator"):
        reasons.exit_code(reasons.Reason.PREEMPTED)


def test_every_reason_says_in_one_line_what_happened_and_what_to_do() -> None:
    for entry in reasons._TABLE:
        for text in (entry.meaning, entry.advice):
            assert text
            assert text[-1] not in ".\n", entry.reason
            assert "\n" not in text


def test_a_reason_of_a_later_version_counts_as_a_crash_does() -> None:
    assert reasons.failure_class("SomethingNew").retry is reasons.Retry.COUNTS
    assert reasons.failure_class("OutOfMemory") is reasons.FAILURES["OutOfMemory"]
