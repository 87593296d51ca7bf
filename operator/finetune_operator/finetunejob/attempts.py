"""The record of attempts: which pods ran for a stage, where, and how they ended. Pure."""

from __future__ import annotations

from datetime import datetime

from finetune_api.reasons import Reason, Retry
from finetune_api.results import Stage
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import MAX_ATTEMPTS, Attempt, FineTuneJobStatus
from finetune_operator.finetunejob.observed import PodState, StageState
from finetune_operator.finetunejob.pod_endings import ending


def with_attempts(
    status: FineTuneJobStatus, spec: FineTuneJobSpec, stage: Stage, state: StageState, now: datetime
) -> FineTuneJobStatus:
    """The status with the attempts of one stage brought up to what is observed."""
    attempts = list(status.attempts)
    crashes = status.crashes or 0
    if state.job:
        _record_job(attempts, stage, state.job.uid)
    for pod in state.pods:
        if (pod.running or pod.ended) and not _forgotten(attempts, pod):
            crashes += _record_pod(attempts, stage, pod, spec, now)
    _close_vanished(attempts, stage, {pod.name for pod in state.pods}, now)
    return status.model_copy(update={"attempts": attempts[-MAX_ATTEMPTS:], "crashes": crashes or None})


def _record_job(attempts: list[Attempt], stage: Stage, job_uid: str) -> None:
    if any(attempt.job_uid == job_uid for attempt in attempts):
        return
    last = attempts[-1] if attempts else None
    if last and last.stage == stage and last.pod is None:
        attempts[-1] = last.model_copy(update={"job_uid": job_uid})  # its Job was lost before a pod ran
    else:
        attempts.append(Attempt(stage=stage, number=_next_number(attempts, stage), job_uid=job_uid))


def _record_pod(attempts: list[Attempt], stage: Stage, pod: PodState, spec: FineTuneJobSpec, now: datetime) -> int:
    """Records one pod. Returns 1 when it has newly crashed, else 0."""
    index = _index(attempts, pod)
    if index is None:
        attempts.append(Attempt(stage=stage, number=_next_number(attempts, stage), job_uid=pod.job_uid))
        index = len(attempts) - 1
    attempt = attempts[index]
    update: dict[str, object] = {
        "pod": pod.name,
        "node": pod.node or attempt.node,
        "start_time": attempt.start_time or pod.started,
    }
    crashed = 0
    if pod.ended and attempt.end_time is None:
        how = ending(pod, spec)
        update |= {"end_time": pod.finished or now, "reason": how.reason}
        crashed = int(how.retry is Retry.COUNTS)
    attempts[index] = attempt.model_copy(update=update)
    return crashed


def _index(attempts: list[Attempt], pod: PodState) -> int | None:
    for index, attempt in enumerate(attempts):
        if attempt.pod == pod.name or (attempt.pod is None and attempt.job_uid == pod.job_uid):
            return index
    return None


def _forgotten(attempts: list[Attempt], pod: PodState) -> bool:
    """Whether this pod's attempt has already been pushed out of the list by later ones."""
    if len(attempts) < MAX_ATTEMPTS or any(attempt.pod == pod.name for attempt in attempts):
        return False
    oldest = attempts[0].start_time
    return oldest is not None and pod.started is not None and pod.started <= oldest


def _close_vanished(attempts: list[Attempt], stage: Stage, pods: set[str], now: datetime) -> None:
    for index, attempt in enumerate(attempts):
        if attempt.stage == stage and attempt.pod and attempt.end_time is None and attempt.pod not in pods:
            attempts[index] = attempt.model_copy(update={"end_time": now, "reason": Reason.INTERRUPTED.value})


def _next_number(attempts: list[Attempt], stage: Stage) -> int:
    return max((attempt.number for attempt in attempts if attempt.stage == stage), default=0) + 1
