"""Rate limits with a clock of the test's own."""

from __future__ import annotations

import pytest

from finetune_operator.gateway.limits import Rate, SubjectLimits, TokenBucket


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(Rate(per_second=2, burst=3), now=0)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) == pytest.approx(0.5)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(Rate(per_second=30, burst=30), now=0)
    assert bucket.available(3600) == 30


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = TokenBucket(Rate(per_second=1, burst=1), now=10)
    bucket.take(10)
    assert bucket.take(10) == 1


def test_one_subject_does_not_use_up_anothers_tokens() -> None:
    limits = SubjectLimits(Rate(per_second=1, burst=2), subjects=10)
    assert [limits.take("pod-a", 0) for _ in range(3)] == [0, 0, 1]
    assert limits.take("pod-b", 0) == 0


def test_the_subjects_remembered_are_bounded_and_the_quietest_goes_first() -> None:
    limits = SubjectLimits(Rate(per_second=1, burst=1), subjects=2)
    for subject in ("pod-a", "pod-b", "pod-a", "pod-c"):
        limits.take(subject, 0)
    assert limits.take("pod-a", 0) > 0  # remembered
    assert limits.take("pod-b", 0) == 0  # forgotten
