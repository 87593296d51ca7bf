"""The heart of the operator: from a job and what is observed to the next step. Pure.

A pass asks for steps until one is Settle: the answers to look-ups come back in Facts, created Jobs in Observed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finetune_api.reasons import Reason
from finetune_api.results import FailureStatus
from finetune_api.stages import STAGES, Stage
from finetune_api.status import PENDING, FineTuneJobStatus
from finetune_operator.finetunejob.attempts import count, last_ended, with_attempts
from finetune_operator.finetunejob.gates import SOON, Start, advised, held_up
from finetune_operator.finetunejob.job_endings import cause, failure_of, overlooked, stopped_too_early
from finetune_operator.finetunejob.job_object import JobObject, Spec
from finetune_operator.finetunejob.observed import Observed
from finetune_operator.finetunejob.pod_endings import RESULT_LOST
from finetune_operator.finetunejob.steps import (
    CreateJob,
    DeleteJob,
    Facts,
    LookUp,
    Need,
    Settle,
    Step,
    Wait,
    Write,
)
from finetune_operator.finetunejob.transitions import active, begin, fail, record, succeed, unsupported
from finetune_operator.finetunejob.waiting import for_a_pod, held_open, suspended, wait_of, warned
from finetune_operator.workload.job import job_name
from finetune_operator.workload.order import Gateway, Order, claims
from finetune_operator.workload.profile import LoadedProfile
from finetune_operator.workload.state import JobState, PodState, WorkloadState

# A Job gets its first pod within moments; the reason for having none is an Event that no watch of ours sees.
POD_DUE = timedelta(seconds=5)
# A pod's volumes are mounted within moments of its coming to a node; the same holds for the kubelet's reasons.
START_DUE = timedelta(seconds=5)
LOOK_AGAIN = 30.0
CLAIM_SECONDS = 15.0
# Containers beside the trainer get so long to end after it, before their Job makes way: the pod holds a GPU.
SIDECAR_GRACE = timedelta(seconds=60)
MAX_LOST_RESULTS = 2


@dataclass(frozen=True)
class Situation:
    """One stage of one job at one moment."""

    job: JobObject
    spec: Spec
    stage: Stage
    status: FineTuneJobStatus  # with attempts recorded
    state: WorkloadState
    facts: Facts
    now: datetime

    @property
    def before(self) -> FineTuneJobStatus:
        """The status as the API server has it."""
        return self.job.status

    @property
    def backoff_limit(self) -> int:
        """How often the stage may crash."""
        return self.spec.resolved.scheduling.backoff_limit

    @property
    def memory_limit(self) -> str | None:
        """The pods' memory limit."""
        return self.spec.resolved.runtime.resources.limits.get("memory")


def plan(job: JobObject, observed: Observed, facts: Facts, now: datetime) -> Step:
    """The next step for one job. Safe to ask twice, late, or after a crash at any line."""
    if job.metadata.deletion_timestamp:
        return Settle(job.status)
    if job.status.holds("Stalled") and (running := _still_active(observed, STAGES)):
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
    return Settle(succeed(status, now))


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
        return _settle(at, Wait(PENDING, f"waiting until Job {job.name} is gone", SOON))
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
    assert isinstance(profile, LoadedProfile)  # or a gate had held it up
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
    if job.suspended:
        return _settle(at, suspended(job))
    pod = at.state.newest
    if pod and pod.held_open and pod in at.state.current:
        return _held_open(at, job, pod)
    if pod is None or pod.ended:
        return _without_pod(at, job)
    plain = _plain(at, job)
    wait = wait_of(at.stage, pod, at.before.condition("Succeeded"), plain, at.now)
    if wait.reason == Reason.UNSCHEDULABLE:
        return _unschedulable(at, wait)
    if pod.node and not pod.running and pod.waiting is None and not pod.deletion:
        return _starting(at, pod, plain)
    return _settle(at, wait)


def _held_open(at: Situation, job: JobState, pod: PodState) -> Step:
    """The trainer ended without a result, and its Job does not see it: the pod goes on beside it."""
    age = at.now - (pod.finished or at.now)
    if age < SIDECAR_GRACE:
        return _settle(at, replace(held_open(pod), revisit=(SIDECAR_GRACE - age).total_seconds()))
    return _again(at, job, f"container {pod.held_open} of pod {pod.name} does not end")


def _without_pod(at: Situation, job: JobState) -> Step:
    """The first pod or a replacement is due. Its controller backs off for minutes after a crash: that is no refusal."""
    last = last_ended(at.status, at.stage)
    plain = _plain(at, job)
    since = last.end_time if last and last.job_uid == job.uid else None
    age = at.now - (since or job.created or at.now)
    if age < POD_DUE:
        return _settle(at, replace(plain, revisit=(POD_DUE - age).total_seconds()))
    if at.facts.warnings is None:
        return LookUp(Need.WARNINGS, job.uid, since)
    rejected = next((one.message for one in at.facts.warnings if one.reason == "FailedCreate"), "")
    # The controller tries again after 10, 20, 40 s and so on, and so does the look for what came of it.
    revisit = min(age.total_seconds(), LOOK_AGAIN)
    return _settle(at, Wait(Reason.POD_REJECTED, rejected, revisit) if rejected else replace(plain, revisit=revisit))


def _plain(at: Situation, job: JobState) -> Wait:
    """What is said while nobody says why no pod runs."""
    last = last_ended(at.status, at.stage)
    return Wait(PENDING, for_a_pod(job.name, f"attempt {last.number} ended ({last.reason})" if last else ""))


def _starting(at: Situation, pod: PodState, plain: Wait) -> Step:
    """A pod that came to a node and does not start there: it loads its image, or waits for a volume."""
    age = at.now - (pod.started or pod.created or at.now)
    if age < START_DUE:
        return _settle(at, replace(plain, revisit=(START_DUE - age).total_seconds()))
    if at.facts.warnings is None:
        return LookUp(Need.WARNINGS, pod.uid)
    return _settle(at, replace(warned(pod, at.facts.warnings, plain), revisit=min(age.total_seconds(), LOOK_AGAIN)))


def _unschedulable(at: Situation, wait: Wait) -> Step:
    """A missing claim reads as Unschedulable; only a live look tells the two apart. Neither times out."""
    before = at.before.condition("Succeeded")
    looked = before is not None and before.reason == wait.reason and "persistentvolumeclaim" not in wait.message
    if looked or not claims(at.spec.resolved):
        return _settle(at, wait)
    if at.facts.missing_claims is None:
        return LookUp(Need.CLAIMS)
    if not at.facts.missing_claims:
        return _settle(at, wait)
    names = ", ".join(f"{at.job.metadata.namespace}/{name}" for name in at.facts.missing_claims)
    text = advised(Reason.VOLUME_NOT_FOUND, f"there is no PersistentVolumeClaim {names}")
    return _settle(at, Wait(Reason.VOLUME_NOT_FOUND, text, CLAIM_SECONDS))


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
    reason, stages = str(wait.reason), at.spec.stages
    return active(at.status, stages, at.stage, reason=reason, message=wait.message, now=at.now)


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
    return active(status, job.spec.stages, stage, reason=reason, message=message, now=now) if stage else job.status
