"""Events for people, from how a status changed: what went wrong, and the end. Pure."""

from __future__ import annotations

from finetune_api.reasons import FAILURES
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.pod_endings import COMPLETED
from finetune_operator.runtime.events import Announcement


def announcements(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    """What happened between two statuses, oldest first."""
    return [*_ended_attempts(before, after), *_verdict(before, after)]


def _ended_attempts(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    known = {one.pod_uid for one in before.attempts if one.end_time}
    fresh = [one for one in after.attempts if one.end_time and one.pod_uid not in known]
    return [
        Announcement("Warning", one.reason, f"attempt {one.number} of stage {one.stage} (pod {one.pod}) ended")
        for one in fresh
        if one.reason and one.reason != COMPLETED
    ]


def _verdict(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Announcement]:
    old, new = before.condition("Succeeded"), after.condition("Succeeded")
    if new is None or (old and (old.status, old.reason) == (new.status, new.reason)):
        return []
    if new.status == "True":
        return [Announcement("Normal", "Succeeded", new.message)]
    if new.status == "False" or new.reason in FAILURES:
        return [Announcement("Warning", new.reason, new.message)]
    return []
