"""The heart of the operator: from a job and what is observed to the next step. Pure.

A pass asks for steps until one is Settle: the answers to look-ups come back in Facts, created Jobs in Observed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from finetune_api.reasons import Reason
from finetune_api.results import FailureStatus
from finetune_api.stages import STAGES, Stage
from finetune_api.status import PENDING, FineTuneJobStatus
from finetune_operator.finetunejob.admission import Start, advised, held_up, unknown_fields
from finetune_operator.finetunejob.attempts import count, with_attempts
from finetune_operator.finetunejob.job_endings import cause, failure_of, overlooked, stopped_too_early, within_budget
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.observed import Observed
from finetune_operator.finetunejob.pod_endings import RESULT_LOST
from finetune_operator.finetunejob.steps import (
    CreateJob,
    DeleteJob,
    Facts,
    LookUp,
    Need,
    Settle,
    Situation,
    Step,
    Wait,
    Write,
)
from finetune_operator.finetunejob.transitions import active, begin, conclude, fail, record, unsupported
from finetune_operator.finetunejob.waiting import SIDECAR_GRACE, being_deleted, for_a_pod, waiting
from finetune_operator.workload.job import job_name
from finetune_operator.workload.order import Gateway, Order
from finetune_operator.workload.profile import LoadedProfile
from finetune_operator.workload.state import JobState

MAX_LOST_RESULTS = 2


def plan(job: JobObject, observed: Observed, facts: Facts, now: datetime) -> Step:
    """The next step for one job. Safe to ask twice, late, or after a crash at any line."""
    if job.metadata.deletion_timestamp:
        return Settle(job.status)
    unrecorded = tuple(stage for stage in STAGES if not job.status.holds(stage.condition))
    if job.status.holds("Stalled") and (running := _still_active(observed, unrecorded)):
        return DeleteJob(running.name, running.uid, "the job has failed")
    left = _left_open(job, observed, now)
    if left and left[1] <= 0:
        return DeleteJob(left[0].name, left[0].uid, "its result is recorded, but its pod does not end")
    step = _step(job, observed, facts, now)
    if left and isinstance(step, Settle):
        return replace(step, revisit=min(left[1], step.revisit if step.revisit is not None else left[1]))
    return step


def _step(job: JobObject, observed: Observed, facts: Facts, now: datetime) -> Step:
    if job.finished:
        return Settle(job.status.model_copy(update={"observed_generation": job.metadata.generation}))
    status = begin(job.status, job.metadata, now)
    if job.spec is None:
        return Settle(unsupported(status, advised(Reason.UNSUPPORTED_SPEC, job.problem), now))
    for stage in job.spec.stages:
        if not status.holds(stage.condition):
            at = Situation(job, job.spec, stage, status, observed.stage(stage), facts, now)
            attempted = with_attempts(status, stage, at.state, at.memory_limit, now)
            step = _advance(replace(at, status=attempted))
            if not isinstance(step, Recorded):
                return step
            status = step.status
    if job.spec.unknown:
        # What this version would pass over may be a gate, or a stage, without which the verdict is not in.
        return Settle(unsupported(status, unknown_fields(job.spec), now))
    return Settle(conclude(status, job.spec, now))


@dataclass(frozen=True)
class Recorded:
    """A stage's result is in the status; the next stage is looked at."""

    status: FineTuneJobStatus


def _still_active(observed: Observed, stages: tuple[Stage, ...]) -> JobState | None:
    jobs = (observed.stage(stage).job for stage in stages)
    return next((job for job in jobs if job and not job.finished and not job.deleting), None)


def _left_open(job: JobObject, observed: Observed, now: datetime) -> tuple[JobState, float] | None:
    """The Job of a recorded stage that has not ended, and in how many seconds it is to make way."""
    recorded = tuple(stage for stage in STAGES if job.status.holds(stage.condition))
    for stage in recorded:
        found, since = _still_active(observed, (stage,)), job.status.stage_status(stage.name).completion_time
        if found and since:
            return found, (since + SIDECAR_GRACE - now).total_seconds()
    return None


def _advance(at: Situation) -> Step | Recorded:
    if at.facts.conflict:
        return _fail(at, failure_of(Reason.NAME_CONFLICT, at.facts.conflict))
    if at.facts.invalid:
        return _fail(at, failure_of(Reason.INVALID_SPEC, at.facts.invalid))
    if success := at.state.success:
        pod, result = success
        profile = at.state.job.profile_sha256 if at.state.job else None
        done = record(at.status, at.spec, at.stage, pod=pod, result=result, profile_sha256=profile, now=at.now)
        return Recorded(done)
    job = at.state.job
    if job is None:
        return _start(at)
    if job.deleting:
        return _settle(at, being_deleted(at, job))
    if job.finished and not at.facts.pods_listed:
        return LookUp(Need.PODS)
    if failure := overlooked(at.stage, at.state, at.status, at.memory_limit):
        return _fail(at, failure)
    if job.failed:
        if stopped_too_early(job, at.stage, at.status, at.backoff_limit):
            return _again(at, job, "it stopped at an attempt that is to be tried again")
        return _fail(at, cause(job, at.stage, at.state, at.status, at.backoff_limit, at.memory_limit))
    if job.complete:
        return _lost(at, job)
    return _wait(at, job)


def _start(at: Situation) -> Step:
    facts = at.facts
    if facts.setup is None:
        return LookUp(Need.SETUP)
    if facts.occupied is None:
        return LookUp(Need.FOLDER)
    if wait := held_up(Start(at.job, at.status, facts, facts.setup, at.now)):
        return _settle(at, wait)
    profile = facts.setup.profile
    assert isinstance(profile, LoadedProfile)  # or a check had held it up
    name = job_name(at.job.metadata.name, at.stage)
    told = at.before.condition("Succeeded") is not None
    recorded = [stage for stage in at.spec.stages if at.status.holds(stage.condition)]
    if not told or not all(at.before.holds(stage.condition) for stage in recorded):
        # What has been reached is written before anything else is started, and so is that something will be.
        return Write(_active(at, Wait(PENDING, for_a_pod(name))))
    gateway = Gateway(facts.setup.gateway_url, facts.setup.gateway_ca) if facts.setup.gateway_ca else None
    spec = at.spec
    order = Order(at.job.metadata, spec.resolved, spec.training_sha256, spec.folder, profile, gateway)
    return CreateJob(order, at.stage, at.status.stage_status(at.stage.name).crashes)


def _wait(at: Situation, job: JobState) -> Step:
    match found := waiting(at, job):
        case Wait():
            return _settle(at, found)
        case LookUp():
            return found
    # The trainer has ended without a result, and its Job can't see it: the container beside it does not end.
    if found.pod.succeeded:
        return _lost(at, job)
    if not within_budget(at.status, at.stage, at.backoff_limit):
        return _fail(at, cause(job, at.stage, at.state, at.status, at.backoff_limit, at.memory_limit))
    return _again(at, job, f"container {found.pod.held_open} of pod {found.pod.name} does not end")


def _lost(at: Situation, job: JobState) -> Step:
    """A Job that completed without a result runs again; the trainer finds what it saved and reports that."""
    lost = count(at.status, at.stage, RESULT_LOST)
    if lost >= MAX_LOST_RESULTS:
        text = f"Job {job.name} completed {lost} times without a result in its termination message"
        return _fail(at, failure_of(Reason.TRAINER_CRASHED, text))
    return _again(at, job, "it completed but its result was lost")


def _again(at: Situation, job: JobState, why: str) -> Step:
    """A Job makes way for a new one."""
    if (at.status.attempts, at.status.stages) != (at.before.attempts, at.before.stages):
        # What happened is recorded before its evidence goes.
        return Write(_active(at, Wait(PENDING, f"Job {job.name} is run again: {why}")))
    return DeleteJob(job.name, job.uid, why)


def _active(at: Situation, wait: Wait) -> FineTuneJobStatus:
    reason, spec = str(wait.reason), at.spec
    return active(at.status, spec.stages, at.stage, reason=reason, message=wait.message, now=at.now, gates=spec.gates)


def _settle(at: Situation, wait: Wait) -> Settle:
    return Settle(_active(at, wait), wait.revisit)


def _fail(at: Situation, failure: FailureStatus) -> Settle:
    """The next pass ends what a failed job may have left running."""
    return Settle(fail(at.status, at.stage, failure, at.now), 0.0)


def in_trouble(job: JobObject, reason: str, message: str, now: datetime) -> FineTuneJobStatus:
    """The status of a job for which the API server fails at what a pass asks."""
    status = begin(job.status, job.metadata, now)
    if job.finished or job.spec is None:
        return job.status
    stage = next((one for one in job.spec.stages if not status.holds(one.condition)), None)
    if stage is None:
        return job.status
    spec = job.spec
    return active(status, spec.stages, stage, reason=reason, message=message, now=now, gates=spec.gates)
