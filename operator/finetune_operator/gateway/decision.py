"""Whether a report may be written to status, given the object as it stands, and the patch that does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from finetune_api.progress import ProgressStatus
from finetune_api.stages import BY_NAME
from finetune_api.status import Attempt, FineTuneJobStatus
from finetune_operator.gateway.identity import Reporter


@dataclass(frozen=True)
class Report:
    """The newest progress of a job and the pod that sent it."""

    reporter: Reporter
    progress: ProgressStatus

    @property
    def position(self) -> tuple[int, int]:
        """What must never go back while the same pod reports. Some images name a percentage only."""
        return position(self.progress)


@dataclass(frozen=True)
class CurrentJob:
    """What was just read of a FineTuneJob."""

    uid: str
    status: FineTuneJobStatus
    deleting: bool = False


class Decision(Enum):
    """What becomes of a report."""

    WRITE = auto()
    WAIT = auto()  # the operator has not yet recorded the pod: try again
    DROP = auto()  # this report is out of date
    FINISH = auto()  # no report will ever be written for this object again


def position(progress: ProgressStatus) -> tuple[int, int]:
    """How far a progress has come."""
    return progress.step, progress.percent


def decide(current: CurrentJob | None, report: Report) -> Decision:
    """Decides on a report; ``current`` is None when no object of that name exists.

    The operator's records in status are what is trusted: only the pod of the newest attempt reports, and a stage whose
    result is recorded is the operator's to describe.
    """
    if current is None or current.uid != report.reporter.job.uid or current.deleting:
        return Decision.FINISH
    if current.status.finished:
        return Decision.FINISH
    if not current.status.attempts:
        return Decision.WAIT
    if current.status.holds(BY_NAME[report.reporter.stage].condition):
        return Decision.DROP
    return _of_attempt(current.status, report)


def _of_attempt(status: FineTuneJobStatus, report: Report) -> Decision:
    reporter = report.reporter
    *earlier, newest = status.attempts
    if any(attempt.pod == reporter.pod for attempt in earlier):
        return Decision.DROP
    if not _belongs(newest, reporter):
        return Decision.WAIT
    if newest.end_time is not None:
        # A retry's pod reports before the operator has recorded it.
        return Decision.DROP if newest.pod == reporter.pod else Decision.WAIT
    shown = status.progress
    same = shown is not None and (shown.pod, shown.stage) == (reporter.pod, reporter.stage)
    return Decision.DROP if shown and same and report.position < position(shown) else Decision.WRITE


def _belongs(attempt: Attempt, reporter: Reporter) -> bool:
    """Whether a reporter is an attempt's pod. An attempt is recorded with its Job first, and gets its pod later."""
    same_job = (attempt.stage, attempt.job_uid) == (reporter.stage, reporter.batch_job_uid)
    return same_job and attempt.pod in (None, reporter.pod) and attempt.pod_uid in (None, reporter.pod_uid)


def json_patch(current: CurrentJob, report: Report) -> list[dict[str, Any]]:
    """The JSON Patch (RFC 6902) that writes a report if the object is still as it was read.

    The UID keeps it off a namesake, the stage off what the operator wrote meanwhile, and the step off what another
    replica of the gateway wrote. A test for null passes where the path is missing.
    """
    shown = current.status.progress
    seen = ("/status/progress/step", shown.step) if shown else ("/status/progress", None)
    tests = [("/metadata/uid", current.uid), ("/status/stage", current.status.stage), seen]
    return [
        *({"op": "test", "path": path, "value": value} for path, value in tests),
        {"op": "add", "path": "/status/progress", "value": report.progress.to_api()},
    ]
