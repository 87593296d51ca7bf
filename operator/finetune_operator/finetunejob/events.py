"""Events for people, from how a status changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune_api.reasons import FAILURES, Reason
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.pod_endings import COMPLETED


@dataclass(frozen=True)
class Announcement:
    """One Event about a FineTuneJob."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def announcements(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    """What happened between two statuses, oldest first."""
    return [*_ended_attempts(before, after), *_stages(before, after)]


def _ended_attempts(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    known = {(one.stage, one.number) for one in before.attempts if one.end_time}
    fresh = [one for one in after.attempts if one.end_time and (one.stage, one.number) not in known]
    return [
        Announcement("Warning", one.reason, f"attempt {one.number} of stage {one.stage} (pod {one.pod}) ended")
        for one in fresh
        if one.reason and one.reason != COMPLETED
    ]


def _stages(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    found = []
    trained = after.condition("Trained")
    if trained and after.holds("Trained") and not before.holds("Trained"):
        found.append(Announcement("Normal", "Trained", trained.message))
    old, new = before.condition("Succeeded"), after.condition("Succeeded")
    if new is None or (old and (old.status, old.reason) == (new.status, new.reason)):
        return found
    if new.status == "True":
        found.append(Announcement("Normal", "Succeeded", new.message))
    elif new.reason in FAILURES:
        found.append(Announcement("Warning", Reason(new.reason).value, new.message))
    elif new.reason in ("Training", "Evaluating"):
        found.append(Announcement("Normal", new.reason, new.message))
    return found
