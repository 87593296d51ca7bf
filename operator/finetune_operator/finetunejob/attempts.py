"""The record of attempts: which pods ran for a stage, how they ended, what that leaves of its budget. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from finetune_api.reasons import Reason, Retry
from finetune_api.stages import Stage
from finetune_api.status import MAX_ATTEMPTS, Attempt, FineTuneJobStatus, StageStatus
from finetune_operator.finetunejob.pod_endings import Ending, ending
from finetune_operator.workload.state import PodState, WorkloadState


def with_attempts(
    status: FineTuneJobStatus, stage: Stage, state: WorkloadState, memory_limit: str | None, now: datetime
) -> FineTuneJobStatus:
    """The status with the attempts and the budget of one stage brought up to what is observed.

    ``memory_limit`` is that of the stage's pods, for words.
    """
    attempts, kept = list(status.attempts), status.stage_status(stage.name)
    if state.job and not state.job.deleting:
        kept = kept.model_copy(update={"job_uid": state.job.uid})
    for pod in state.pods:
        if (pod.running or pod.ended) and not _forgotten(attempts, pod):
            kept = _record(attempts, kept, pod, ending(pod, memory_limit) if pod.ended else None, now)
    kept = _close_vanished(attempts, kept, {pod.uid for pod in state.pods}, now)
    update: dict[str, object] = {"attempts": attempts[-MAX_ATTEMPTS:]}
    if kept != StageStatus(name=stage.name):
        update["stages"] = with_stage(status, kept)
    return status.model_copy(update=update)


def with_stage(status: FineTuneJobStatus, kept: StageStatus) -> list[StageStatus]:
    """The entries of status.stages with this one in its place."""
    if not any(one.name == kept.name for one in status.stages):
        return [*status.stages, kept]
    return [kept if one.name == kept.name else one for one in status.stages]


def last_ended(status: FineTuneJobStatus, stage: Stage, job_uid: str | None = None) -> Attempt | None:
    """The newest attempt of a stage, or of one Job of it, where that has ended."""
    of = [one for one in status.attempts if one.stage == stage.name and job_uid in (None, one.job_uid)]
    return of[-1] if of and of[-1].end_time else None


def count(status: FineTuneJobStatus, stage: Stage, reason: str) -> int:
    """How many of the stage's attempts, of those that are kept, ended for a reason."""
    return sum(one.stage == stage.name and one.reason == reason for one in status.attempts)


def _record(
    attempts: list[Attempt], kept: StageStatus, pod: PodState, how: Ending | None, now: datetime
) -> StageStatus:
    """Records one pod, and in ``kept`` what it adds to its stage."""
    index = next((index for index, one in enumerate(attempts) if one.pod_uid == pod.uid), None)
    if index is None:
        number = kept.attempts + 1
        fresh = Attempt(stage=kept.name, number=number, job_uid=pod.job_uid, pod=pod.name, pod_uid=pod.uid)
        attempts.append(fresh)
        index, kept = len(attempts) - 1, kept.model_copy(update={"attempts": number})
    attempt = attempts[index]
    attempt = attempt.model_copy(
        update={"node": pod.node or attempt.node, "start_time": attempt.start_time or pod.started}
    )
    if attempt.start_time and kept.start_time is None:
        kept = kept.model_copy(update={"start_time": attempt.start_time})
    if how and attempt.end_time is None:
        # One that never started ended when it came: the next is younger, however late this is seen.
        end = pod.finished or (now if attempt.start_time else pod.created) or now
        attempt = attempt.model_copy(update={"end_time": end, "reason": how.reason})
        kept = _spent(kept, attempt, crashes=int(how.retry is Retry.COUNTS))
    attempts[index] = attempt
    return kept


def _forgotten(attempts: list[Attempt], pod: PodState) -> bool:
    """Whether this pod's attempt has already been pushed out of the list by later ones.

    A stage's next pod is created when the one before has ended, so that all in the list are younger.
    """
    if len(attempts) < MAX_ATTEMPTS or any(one.pod_uid == pod.uid for one in attempts):
        return False
    oldest = attempts[0].start_time or attempts[0].end_time
    return oldest is not None and pod.created is not None and pod.created <= oldest


def _close_vanished(attempts: list[Attempt], kept: StageStatus, pods: set[str], now: datetime) -> StageStatus:
    for index, attempt in enumerate(attempts):
        if attempt.stage == kept.name and attempt.end_time is None and attempt.pod_uid not in pods:
            attempts[index] = attempt.model_copy(update={"end_time": now, "reason": Reason.INTERRUPTED.value})
            kept = _spent(kept, attempts[index], crashes=0)
    return kept


def _spent(kept: StageStatus, attempt: Attempt, crashes: int) -> StageStatus:
    """The stage's record after an attempt of it has ended."""
    ran = attempt.end_time - attempt.start_time if attempt.end_time and attempt.start_time else timedelta()
    seconds = max(0, int(ran.total_seconds()))
    return kept.model_copy(update={"crashes": kept.crashes + crashes, "active_seconds": kept.active_seconds + seconds})
