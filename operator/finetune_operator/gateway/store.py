"""The newest report of each job, and which of them to write when. Pure: times are seconds of a monotonic clock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from finetune_api.progress import ProgressStatus
from finetune_operator.gateway.decision import Decision, Report
from finetune_operator.gateway.identity import JobKey, Reporter

# A job that was not heard of for so long takes no share of the writes.
ACTIVE_SECONDS = 60.0
# A report that the operator gives no reason to write is forgotten after this.
WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Schedule:
    """How often to write: a job at most every ``shortest_interval`` seconds, all jobs ``per_second`` times a second."""

    shortest_interval: float = 5.0
    per_second: float = 30.0


class Verdict(Enum):
    """What became of an offered report; the value is a line for the trainer's log."""

    TAKEN = "taken"
    LOWER_STEP = "a later step of this pod is already known"
    SUPERSEDED = "a newer pod reports for this job"
    FINISHED = "the job is finished or deleted"


@dataclass
class _Entry:
    report: Report
    heard: float
    due: float
    dirty: bool = True
    urgent: bool = True  # a new pod, and so perhaps a new stage: goes before refreshes
    writing: bool = False
    finished: bool = False
    waiting_since: float | None = None


class ProgressStore:
    """Keeps one report per job and at most ``capacity`` jobs, the last heard of."""

    def __init__(self, schedule: Schedule, capacity: int) -> None:
        self._schedule = schedule
        self._capacity = capacity
        self._entries: OrderedDict[JobKey, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def latest(self, reporter: Reporter) -> ProgressStatus | None:
        """What this pod reported last, if that is still known."""
        entry = self._entries.get(reporter.job)
        return entry.report.progress if entry and entry.report.reporter.pod_uid == reporter.pod_uid else None

    def offer(self, report: Report, now: float) -> Verdict:
        """Takes a report if it is newer than what is known of its job."""
        key = report.reporter.job
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(report, heard=now, due=now)
            self._evict()
            return Verdict.TAKEN
        verdict = _judge(entry, report)
        if verdict is Verdict.TAKEN:
            self._replace(entry, report, now)
        return verdict

    def take(self, limit: int, now: float) -> list[Report]:
        """At most ``limit`` reports to write now; each must be settled. New pods first, then those waiting longest."""
        chosen = sorted(self._due(now), key=lambda entry: (not entry.urgent, entry.due))[:limit]
        for entry in chosen:
            entry.writing, entry.dirty = True, False
        return [entry.report for entry in chosen]

    def has_due(self, now: float) -> bool:
        """Whether anything could be taken now."""
        return bool(self._due(now))

    def settle(self, report: Report, decision: Decision, now: float) -> None:
        """Records what became of a report that was taken."""
        entry = self._entries.get(report.reporter.job)
        if entry is None:
            return
        entry.writing = entry.urgent = False
        entry.due = now + self.interval(now)
        entry.finished = entry.finished or decision is Decision.FINISH
        if entry.finished:
            entry.dirty = False
        elif entry.report.reporter != report.reporter:  # a new pod reported while the old one's report was written
            entry.urgent, entry.due = True, now
        elif decision is Decision.WAIT:
            self._wait(entry, now)
        else:
            entry.waiting_since = None

    def hurry(self, now: float) -> None:
        """Makes everything unwritten due, before an end of the process."""
        for entry in self._entries.values():
            entry.due = min(entry.due, now)

    def interval(self, now: float) -> float:
        """Seconds between two writes of one job: short for few jobs, longer when many share the rate."""
        active = sum(not entry.finished and now - entry.heard < ACTIVE_SECONDS for entry in self._entries.values())
        return max(self._schedule.shortest_interval, active / self._schedule.per_second)

    def _due(self, now: float) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.dirty and not entry.writing and entry.due <= now]

    def _replace(self, entry: _Entry, report: Report, now: float) -> None:
        if entry.report.reporter != report.reporter:
            entry.urgent, entry.due, entry.waiting_since = True, now, None
        entry.report, entry.heard, entry.dirty = report, now, True
        self._entries.move_to_end(report.reporter.job)

    def _wait(self, entry: _Entry, now: float) -> None:
        entry.waiting_since = entry.waiting_since if entry.waiting_since is not None else now
        entry.dirty = entry.dirty or now - entry.waiting_since < WAIT_SECONDS

    def _evict(self) -> None:
        """Makes room: finished jobs first, then those with nothing to write, then the least recently heard."""
        if len(self._entries) <= self._capacity:
            return
        rank = {key: (not entry.finished, entry.dirty or entry.writing) for key, entry in self._entries.items()}
        del self._entries[min(rank, key=rank.__getitem__)]


def _judge(entry: _Entry, report: Report) -> Verdict:
    known = entry.report
    if entry.finished:
        return Verdict.FINISHED
    if known.reporter.pod_uid == report.reporter.pod_uid:
        return Verdict.LOWER_STEP if report.position < known.position else Verdict.TAKEN
    return Verdict.SUPERSEDED if report.reporter.created < known.reporter.created else Verdict.TAKEN
