"""What a running job looks like at a moment: derived from its status, without I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from finetune_api.job import FineTuneJob
from finetune_api.progress import ProgressStatus, format_duration
from finetune_api.reasons import FAILURES
from finetune_api.stages import BY_NAME, STAGES, TRAIN, stages_of
from finetune_api.status import PENDING, Attempt

SHORT_WAIT_SECONDS = 10


@dataclass(frozen=True)
class View:
    """The newest state of a job, and what was seen on the way."""

    job: FineTuneJob
    received: datetime
    losses: tuple[float, ...] = ()
    notice: str = ""  # why there is nothing newer


@dataclass(frozen=True)
class Remark:
    """A line about the current stage, and what the user can do about it."""

    text: str
    advice: str = ""
    is_hindrance: bool = False


def advance(previous: View | None, job: FineTuneJob, now: datetime) -> View:
    """The view after a new state of the job has come."""
    losses = previous.losses if previous else ()
    loss = _loss(job.status.progress)
    if loss is not None and (previous is None or _moved(previous.job.status.progress, job.status.progress)):
        losses = (*losses, loss)
    return View(job, now, losses)


def with_notice(view: View, notice: str) -> View:
    """The same view with a word on why there is nothing newer."""
    return replace(view, notice=notice)


def stages(job: FineTuneJob) -> list[str]:
    """The stages that this job goes through, in order; last one that only a newer operator knows, while it runs."""
    known = [PENDING, *(stage.active for stage in stages_of(job.spec))]
    return known if stage(job) in known or is_over(job) else [*known, stage(job)]


def stage(job: FineTuneJob) -> str:
    """The stage of people's eyes; a job that the operator has not seen yet is pending."""
    return job.status.stage or PENDING


def is_over(job: FineTuneJob) -> bool:
    """Whether the verdict stands."""
    return job.status.finished


def stage_progress(job: FineTuneJob) -> ProgressStatus | None:
    """The progress of the current stage. None while only an earlier stage has reported any."""
    progress = job.status.progress
    if progress is None:
        return None
    current = next((known.name for known in STAGES if known.active == stage(job)), None)
    return progress if progress.stage == current or (current is None and progress.stage not in BY_NAME) else None


def remark(job: FineTuneJob) -> Remark:
    """What the operator says of a job without a verdict."""
    verdict = job.status.condition("Succeeded")
    if verdict is None:
        return Remark("waiting for the operator to see the job")
    entry = FAILURES.get(verdict.reason)
    if entry is None:
        return Remark(verdict.message)
    advice = "" if entry.advice in verdict.message else entry.advice
    return Remark(f"{verdict.reason}: {verdict.message}", advice, is_hindrance=True)


def remaining(view: View, now: datetime) -> str:
    """The trainer's estimate for the stage, counted down since it came."""
    progress = stage_progress(view.job)
    if progress is None or progress.remaining_seconds is None:
        return ""
    passed = (now - view.received).total_seconds()
    return format_duration(max(0, round(progress.remaining_seconds - passed)))


def elapsed(job: FineTuneJob, now: datetime) -> str:
    """Time since the operator saw the job first, until its end."""
    if job.status.start_time is None:
        return ""
    end = job.status.completion_time or now
    return format_duration(max(0, round((end - job.status.start_time).total_seconds())))


def waited(job: FineTuneJob) -> str:
    """How long stages of an ended job waited for their pods; empty below ten seconds."""
    seconds, before = 0.0, job.status.start_time
    for entry in job.status.stages:
        if before and entry.start_time:
            seconds += max(0.0, (entry.start_time - before).total_seconds())
        before = entry.completion_time
    return format_duration(round(seconds)) if seconds >= SHORT_WAIT_SECONDS else ""


def repeated_attempts(job: FineTuneJob) -> list[Attempt]:
    """The attempts of the current stage, when there was more than one."""
    current = job.status.attempts[-1].stage if job.status.attempts else None
    attempts = [attempt for attempt in job.status.attempts if attempt.stage == current]
    return attempts if attempts and attempts[-1].number > 1 else []


def describe_attempts(attempts: list[Attempt]) -> str:
    """One line: which attempt runs, and how the earlier ones ended."""
    ended = [f"attempt {attempt.number}: {attempt.reason or 'ended'}" for attempt in attempts[:-1]]
    return f"attempt {attempts[-1].number}" + (f" ({', '.join(ended)})" if ended else "")


def _loss(progress: ProgressStatus | None) -> float | None:
    if progress is None or progress.stage != TRAIN.name or progress.loss is None:
        return None
    try:
        value = float(progress.loss)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moved(old: ProgressStatus | None, new: ProgressStatus | None) -> bool:
    return old is None or new is None or (old.stage, old.pod, old.step) != (new.stage, new.pod, new.step)
