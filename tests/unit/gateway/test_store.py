"""The store: which report is kept, and which is written when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from finetune_api.progress import ProgressStatus
from finetune_operator.gateway.decision import Decision, Report
from finetune_operator.gateway.identity import JobKey, Reporter
from finetune_operator.gateway.store import WAIT_SECONDS, ProgressStore, Schedule, Verdict

MORNING = datetime(2026, 1, 1, 8, tzinfo=UTC)
FIRST_POD = Reporter(JobKey("ml", "medqa", "uid-1"), "Train", "medqa-train-a", "pod-a", MORNING, "batch-1")
SECOND_POD = replace(FIRST_POD, pod="medqa-train-b", pod_uid="pod-b", created=MORNING + timedelta(minutes=1))
EVALUATOR = replace(SECOND_POD, stage="Evaluate", pod="medqa-eval-c", pod_uid="pod-c", batch_job_uid="batch-2")


def report(reporter: Reporter = FIRST_POD, step: int = 0, percent: int = 0) -> Report:
    return Report(reporter, ProgressStatus(stage=reporter.stage, pod=reporter.pod, step=step, percent=percent))


def of_job(number: int) -> Report:
    """A report of another job."""
    return report(replace(FIRST_POD, job=JobKey("ml", f"job-{number}", f"uid-{number}"), pod_uid=f"pod-{number}"))


def make_store(capacity: int = 100) -> ProgressStore:
    return ProgressStore(Schedule(shortest_interval=5, per_second=30), capacity)


def write(store: ProgressStore, now: float, decision: Decision = Decision.WRITE, limit: int = 100) -> list[Report]:
    """What the flusher does in one turn."""
    taken = store.take(limit, now)
    for each in taken:
        store.settle(each, decision, now)
    return taken


ORDER = [
    ("a higher step is taken", report(step=10), report(step=11), Verdict.TAKEN),
    ("the same step is taken", report(step=10), report(step=10), Verdict.TAKEN),
    ("a lower step is refused", report(step=10), report(step=9), Verdict.LOWER_STEP),
    ("a lower percentage is refused", report(percent=40), report(percent=39), Verdict.LOWER_STEP),
    ("a new pod may start lower", report(step=10), report(SECOND_POD, step=1), Verdict.TAKEN),
    ("the evaluator starts at zero", report(step=10), report(EVALUATOR), Verdict.TAKEN),
    ("an older pod is refused", report(SECOND_POD, step=1), report(FIRST_POD, step=10), Verdict.SUPERSEDED),
    ("the trainer is refused after the evaluator", report(EVALUATOR), report(FIRST_POD, step=10), Verdict.SUPERSEDED),
]


@pytest.mark.parametrize(("known", "offered", "verdict"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_reports_never_go_back(known: Report, offered: Report, verdict: Verdict) -> None:
    store = make_store()
    store.offer(known, now=0)
    assert store.offer(offered, now=1) is verdict
    [kept] = store.take(10, now=1)
    assert kept == (offered if verdict is Verdict.TAKEN else known)


def test_only_the_newest_report_of_a_job_is_written() -> None:
    store = make_store()
    for step in range(10):
        store.offer(report(step=step), now=step / 10)
    assert write(store, now=1) == [report(step=9)]
    assert write(store, now=100) == []


def test_the_next_report_of_the_same_pod_waits_for_the_interval() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    write(store, now=0)
    store.offer(report(step=2), now=1)
    assert write(store, now=4.9) == []
    assert write(store, now=5) == [report(step=2)]


def test_a_new_pod_does_not_wait() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    write(store, now=0)
    store.offer(report(EVALUATOR), now=1)
    assert write(store, now=1) == [report(EVALUATOR)]


def test_a_new_pod_that_reports_during_a_write_does_not_wait() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    [old] = store.take(1, now=0)
    store.offer(report(EVALUATOR), now=0.1)
    assert store.take(1, now=0.1) == []
    store.settle(old, Decision.WRITE, now=0.2)
    assert store.take(1, now=0.2) == [report(EVALUATOR)]


def test_a_new_pod_goes_before_refreshes() -> None:
    store = make_store()
    for number in range(3):
        store.offer(of_job(number), now=0)
    write(store, now=0)
    for number in range(3):
        store.offer(of_job(number), now=1)
    store.offer(report(), now=9)
    assert store.take(1, now=9) == [report()]


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 5), (150, 5), (300, 10), (1000, 1000 / 30)])
def test_the_interval_grows_with_the_jobs_so_that_the_rate_suffices(jobs: int, seconds: float) -> None:
    store = make_store(capacity=2000)
    for number in range(jobs):
        store.offer(of_job(number), now=0)
    assert store.interval(now=1) == pytest.approx(seconds)
    assert store.interval(now=1000) == 5  # none of them was heard of lately


def test_the_jobs_that_waited_longest_are_written_first() -> None:
    store = make_store()
    for number in range(5):
        store.offer(of_job(number), now=number)
    assert write(store, now=10, limit=2) == [of_job(0), of_job(1)]
    assert write(store, now=10, limit=2) == [of_job(2), of_job(3)]


def test_nothing_is_taken_without_room() -> None:
    store = make_store()
    store.offer(report(), now=0)
    assert store.take(0, now=0) == []
    assert store.take(1, now=0) == [report()]


def test_a_report_that_must_wait_is_tried_again() -> None:
    store = make_store()
    store.offer(report(step=3), now=0)
    assert write(store, now=0, decision=Decision.WAIT) == [report(step=3)]
    assert write(store, now=4) == []
    assert write(store, now=5) == [report(step=3)]
    assert write(store, now=100) == []


def test_a_report_that_waits_in_vain_is_forgotten() -> None:
    store = make_store()
    store.offer(report(), now=0)
    tries = [now for now in range(0, int(3 * WAIT_SECONDS), 5) if write(store, now, Decision.WAIT)]
    assert tries[-1] == WAIT_SECONDS


def test_a_dropped_report_is_not_tried_again_but_the_next_one_is() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    write(store, now=0, decision=Decision.DROP)
    assert write(store, now=100) == []
    store.offer(report(step=2), now=100)
    assert write(store, now=100) == [report(step=2)]


def test_a_finished_job_takes_no_more_reports() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    write(store, now=0, decision=Decision.FINISH)
    assert store.offer(report(step=2), now=1) is Verdict.FINISHED
    assert store.offer(report(EVALUATOR), now=1) is Verdict.FINISHED
    assert write(store, now=100) == []


def test_a_namesake_of_a_finished_job_is_another_job() -> None:
    store = make_store()
    store.offer(report(step=9), now=0)
    write(store, now=0, decision=Decision.FINISH)
    namesake = report(replace(FIRST_POD, job=replace(FIRST_POD.job, uid="uid-2"), pod_uid="pod-z"), step=1)
    assert store.offer(namesake, now=1) is Verdict.TAKEN
    assert write(store, now=1) == [namesake]


def test_memory_is_bounded_and_finished_jobs_go_first() -> None:
    store = make_store(capacity=3)
    for number in range(3):
        store.offer(of_job(number), now=number)
    taken = store.take(3, now=3)
    for each, decision in zip(taken, (Decision.WRITE, Decision.FINISH, Decision.WRITE), strict=True):
        store.settle(each, decision, now=3)
    store.offer(of_job(3), now=4)
    assert len(store) == 3
    assert store.latest(of_job(1).reporter) is None
    store.offer(of_job(4), now=5)
    assert store.latest(of_job(0).reporter) is None
    assert store.latest(of_job(2).reporter) is not None
    assert store.latest(of_job(4).reporter) is not None


def test_an_evicted_job_that_was_being_written_is_left_alone() -> None:
    store = make_store(capacity=1)
    store.offer(of_job(0), now=0)
    [taken] = store.take(1, now=0)
    store.offer(of_job(1), now=0)
    store.settle(taken, Decision.WRITE, now=1)
    assert len(store) == 1


def test_at_the_end_everything_unwritten_is_due() -> None:
    store = make_store()
    store.offer(report(step=1), now=0)
    write(store, now=0)
    store.offer(report(step=2), now=1)
    assert not store.has_due(now=1)
    store.hurry(now=1)
    assert store.has_due(now=1)
    assert write(store, now=1) == [report(step=2)]
