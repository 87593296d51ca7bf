"""The heart of the operator: from a job and what is observed to the next step. Pure.

A pass asks for steps until one is Settle: the answers to look-ups come back in Facts, created Jobs in Observed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finetune_api.job import ObjectMeta
from finetune_api.reasons import Reason
from finetune_api.results import FailureStatus, Stage
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.attempts import with_attempts
from finetune_operator.finetunejob.job_endings import cause, overlooked, stopped_too_early
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.observed import JobState, Observed, PodState, StageState
from finetune_operator.finetunejob.pod_endings import RESULT_LOST
from finetune_operator.finetunejob.steps import (
    CreateConfig,
    CreateJob,
    DeleteJob,
    Facts,
    LookUp,
    Need,
    Settle,
    Setup,
    Step,
)
from finetune_operator.finetunejob.transitions import PENDING, RECORDED, active, begin, fail, record, succeed
from finetune_operator.finetunejob.waiting import Wait, wait_of
from finetune_operator.runtime.messages import with_advice
from finetune_operator.workload.job import Gateway, Order, claims
from finetune_operator.workload.profile import ProfileProblem

SOON = 5.0
PROFILE_SECONDS = 15.0
REFUSED_SECONDS = 30.0
# A Job gets its first pod within moments; the reason for having none is an Event that no watch of ours sees.
POD_DUE = timedelta(seconds=5)
# A claim applied in the same breath as the job, but after it, still counts.
CLAIM_GRACE = timedelta(seconds=60)
# Training without live progress is better than not training: the gateway's certificate is not waited for longer.
GATEWAY_GRACE = timedelta(seconds=60)
MAX_LOST_RESULTS = 2


@dataclass(frozen=True)
class Situation:
    """One stage of one job at one moment."""

    metadata: ObjectMeta
    spec: FineTuneJobSpec
    stages: tuple[Stage, ...]
    stage: Stage
    before: FineTuneJobStatus  # as the API server has it
    status: FineTuneJobStatus  # with attempts recorded
    state: StageState
    lingering: tuple[str, ...]
    facts: Facts
    now: datetime


def plan(job: JobObject, observed: Observed, facts: Facts, now: datetime) -> Step:
    """The next step for one job. Safe to ask twice, late, or after a crash at any line."""
    if job.metadata.deletion_timestamp:
        return Settle(job.status)
    if job.finished:
        return _after_the_verdict(job, observed)
    status = begin(job.status, job.metadata, now)
    if job.spec is None:
        failure = FailureStatus(reason=Reason.INVALID_SPEC, message=with_advice(Reason.INVALID_SPEC, job.problem))
        return Settle(fail(status, "Train", failure, now))
    for stage in job.stages:
        if not status.holds(RECORDED[stage]):
            state = observed.stage(stage)
            attempted = with_attempts(status, job.spec, stage, state, now)
            lingering = observed.lingering
            return _advance(
                Situation(
                    job.metadata, job.spec, job.stages, stage, job.status, attempted, state, lingering, facts, now
                )
            )
    return Settle(succeed(status, now))


def _after_the_verdict(job: JobObject, observed: Observed) -> Step:
    """A failed job leaves no Job behind that could still start pods."""
    if job.status.condition("Stalled"):
        for found in (observed.train.job, observed.evaluate.job):
            if found and not found.finished and not found.deleting:
                return DeleteJob(found.name, found.uid, "the job has failed")
    return Settle(job.status.model_copy(update={"observed_generation": job.metadata.generation}))


def _advance(at: Situation) -> Step:
    if at.facts.conflict:
        return _fail(at, _failure(Reason.NAME_CONFLICT, at.facts.conflict))
    if at.facts.invalid:
        return _fail(at, _failure(Reason.INVALID_SPEC, at.facts.invalid))
    if success := at.state.success:
        pod, result = success
        done = record(at.status, at.spec, at.stage, pod=pod, result=result, state=at.state, now=at.now)
        return _after_a_stage(replace(at, status=done))
    job = at.state.job
    if job is None:
        return _start(at)
    if job.deleting:
        return _settle(at, Wait(PENDING, f"waiting until Job {job.name} is gone", SOON))
    if job.finished and not at.facts.pods_listed:
        return LookUp(Need.PODS)
    if job.failed:
        if stopped_too_early(job, at.status, at.spec):
            return _again(at, job, "its policy stopped it at an attempt that is to be tried again")
        return _fail(at, cause(job, at.state, at.status, at.spec))
    if job.complete:
        return _lost(at, job)
    return _wait(at, job)


def _after_a_stage(at: Situation) -> Step:
    """A result is written before anything else is started."""
    following = at.stages.index(at.stage) + 1
    if following == len(at.stages):
        return Settle(succeed(at.status, at.now))
    ahead = replace(at, stage=at.stages[following])
    return _settle(ahead, Wait(PENDING, "training is done; the evaluation starts", 0.0))


def _start(at: Situation) -> Step:
    facts = at.facts
    if at.lingering:
        return _settle(at, Wait(PENDING, f"waiting until pod {at.lingering[0]} of an earlier run has ended", SOON))
    if facts.stale:
        return _settle(at, Wait(PENDING, f"waiting until {facts.stale} of a deleted job of this name is gone", SOON))
    if facts.refusal:
        return _settle(at, Wait(Reason.POD_REJECTED, facts.refusal, REFUSED_SECONDS))
    if facts.setup is None:
        return LookUp(Need.SETUP)
    if isinstance(facts.setup.profile, ProfileProblem):
        return _settle(at, Wait(Reason.PROFILE_NOT_FOUND, facts.setup.profile.message, PROFILE_SECONDS))
    if _gateway_is_due(at, facts.setup):
        return _settle(at, Wait(PENDING, "waiting for the status gateway's certificate", SOON))
    if at.stage == at.stages[0]:
        if facts.occupied is None:
            return LookUp(Need.FOLDER)
        if facts.occupied:
            text = f"FineTuneJob {facts.occupied} writes to the same folder; this job starts when it has ended"
            return _settle(at, Wait(PENDING, text, SOON))
    gateway = Gateway(facts.setup.gateway_url, facts.setup.gateway_ca) if facts.setup.gateway_ca else None
    order = Order(at.metadata, at.spec, facts.setup.profile, gateway)
    return CreateJob(order, at.stage) if facts.config_ready else CreateConfig(order)


def _gateway_is_due(at: Situation, setup: Setup) -> bool:
    seen = at.status.start_time or at.now
    return bool(setup.gateway_url) and not setup.gateway_ca and at.now - seen < GATEWAY_GRACE


def _wait(at: Situation, job: JobState) -> Step:
    if failure := overlooked(at.state, at.spec):
        return _fail(at, failure)
    pod = at.state.newest
    if pod is None or pod.ended:
        return _without_pod(at, job)
    wait = wait_of(at.stage, at.state, at.before.condition("Succeeded"), at.now)
    if wait.reason == Reason.UNSCHEDULABLE:
        return _unschedulable(at, pod, wait)
    return _settle(at, wait)


def _without_pod(at: Situation, job: JobState) -> Step:
    """The first pod or a replacement is due. Its controller backs off for minutes after a crash: that is no refusal."""
    plain = wait_of(at.stage, at.state, None, at.now)
    ends = [one.end_time for one in at.status.attempts if one.job_uid == job.uid and one.end_time]
    since = max(ends, default=None)
    age = at.now - (since or job.created or at.now)
    if age < POD_DUE:
        return _settle(at, replace(plain, revisit=(POD_DUE - age).total_seconds()))
    if at.facts.rejection is None:
        return LookUp(Need.REJECTION, since)
    if at.facts.rejection:
        return _settle(at, Wait(Reason.POD_REJECTED, at.facts.rejection, REFUSED_SECONDS))
    # The controller tries again after 10, 20, 40 s and so on, and so does the look for what came of it.
    return _settle(at, replace(plain, revisit=min(age.total_seconds(), REFUSED_SECONDS)))


def _unschedulable(at: Situation, pod: PodState, wait: Wait) -> Step:
    """A missing claim reads as Unschedulable; only a live look tells the two apart. Nothing else times out."""
    age = at.now - (pod.created or at.now)
    if not claims(at.spec):
        return _settle(at, wait)
    if age < CLAIM_GRACE:
        return _settle(at, replace(wait, revisit=(CLAIM_GRACE - age).total_seconds()))
    if at.facts.missing_claims is None:
        return LookUp(Need.CLAIMS)
    if not at.facts.missing_claims:
        return _settle(at, wait)
    names = ", ".join(f"{at.metadata.namespace}/{name}" for name in at.facts.missing_claims)
    return _fail(at, _failure(Reason.VOLUME_NOT_FOUND, f"there is no PersistentVolumeClaim {names}"))


def _lost(at: Situation, job: JobState) -> Step:
    """A Job that completed without a result runs again; the trainer finds what it saved and reports that."""
    lost = [one for one in at.status.attempts if one.stage == at.stage and one.reason == RESULT_LOST]
    if len(lost) >= MAX_LOST_RESULTS:
        text = f"Job {job.name} completed {len(lost)} times without a result in its termination message"
        return _fail(at, _failure(Reason.TRAINER_CRASHED, text))
    return _again(at, job, "it completed but its result was lost")


def _again(at: Situation, job: JobState, why: str) -> Step:
    """A finished Job makes way for a new one."""
    if at.status.attempts != at.before.attempts:  # what happened is recorded before its evidence goes
        return _settle(at, Wait(PENDING, f"Job {job.name} is run again: {why}", 0.0))
    return DeleteJob(job.name, job.uid, why)


def _settle(at: Situation, wait: Wait) -> Settle:
    status = active(at.status, at.stages, at.stage, reason=str(wait.reason), message=wait.message, now=at.now)
    return Settle(status, wait.revisit)


def _fail(at: Situation, failure: FailureStatus) -> Settle:
    """The next pass ends what a failed job may have left running."""
    return Settle(fail(at.status, at.stage, failure, at.now), 0.0)


def _failure(reason: Reason, text: str) -> FailureStatus:
    return FailureStatus(reason=reason, message=with_advice(reason, text))
