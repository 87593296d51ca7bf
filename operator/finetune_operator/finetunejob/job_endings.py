"""What fails a stage for good, and whether its Job's policy stopped it rightly. Pure."""

from __future__ import annotations

from finetune_api.base import one_line, with_advice
from finetune_api.reasons import FAILURES, NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL, Reason, Retry, failure_class
from finetune_api.results import MAX_MESSAGE, FailureStatus
from finetune_api.stages import Stage
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.attempts import count, last_ended
from finetune_operator.finetunejob.pod_endings import ending
from finetune_operator.workload.state import JobState, WorkloadState

# How attempts end for free at which no Job should stop: its policy sees no more than 137, which also stands for a
# killed pod that somebody deleted and for a container that its node has lost, and it counts pods that no node admitted.
# Not Interrupted: that may be a pod whose end nobody saw.
_FREE = frozenset({Reason.NODE_LOST, Reason.PREEMPTED, Reason.NODE_REFUSED, Reason.NODE_PRESSURE})
_SPENT = "BackoffLimitExceeded"
_STOPPED = frozenset({"PodFailurePolicy", _SPENT})


def failure_of(reason: Reason, text: str) -> FailureStatus:
    """A failure that only the operator sees, with the table's advice."""
    return FailureStatus(reason=reason.value, message=with_advice(text, FAILURES[reason].advice, MAX_MESSAGE))


def cause(
    job: JobState,
    stage: Stage,
    state: WorkloadState,
    status: FineTuneJobStatus,
    backoff_limit: int,
    memory_limit: str | None,
) -> FailureStatus:
    """What made the Job fail: the pod that its policy stopped at, else the newest that crashed."""
    endings = [how for how in (ending(pod, memory_limit) for pod in state.current if pod.ended) if how.failure]
    final = next((how.failure for how in reversed(endings) if how.retry is Retry.NEVER), None)
    if final:
        return final
    crash = next((how.failure for how in reversed(endings) if how.retry is Retry.COUNTS), None)
    why = job.failed.message if job.failed else ""
    if crash is None:
        return failure_of(Reason.TRAINER_CRASHED, f"Job {job.name} failed: {why or 'no reason given'}")
    if status.stage_status(stage.name).crashes <= backoff_limit:
        return crash
    message = f"more crashes than scheduling.backoffLimit {backoff_limit} allows; the last: {crash.message}"
    return crash.model_copy(update={"message": one_line(message, MAX_MESSAGE)})


def stopped_too_early(job: JobState, stage: Stage, status: FineTuneJobStatus, backoff_limit: int) -> bool:
    """Whether the Job stopped at an attempt that is to be tried again, with something left of the stage's budget."""
    if not job.failed or job.failed.reason not in _STOPPED:
        return False
    last = last_ended(status, stage, job.uid)
    again = last is not None and _tried_again(last.reason or "", job.failed.reason)
    return again and within_budget(status, stage, backoff_limit)


def _tried_again(reason: str, stopped_by: str) -> bool:
    """Whether no Job should stop at an attempt that ended so while the stage's budget lasts."""
    known = FAILURES.get(reason)
    if known is None:  # a newer trainer's word for an exit code; at that of a mistake the policy stops
        return stopped_by == _SPENT
    return known.retry is Retry.COUNTS or known.reason in _FREE


def within_budget(status: FineTuneJobStatus, stage: Stage, backoff_limit: int) -> bool:
    """Whether the stage has not crashed more often than it may, over all its Jobs."""
    return status.stage_status(stage.name).crashes <= backoff_limit


def overlooked(
    stage: Stage, state: WorkloadState, status: FineTuneJobStatus, memory_limit: str | None
) -> FailureStatus | None:
    """What the newest ended pod ended with, when that fails the stage and the Job's policy would try again.

    That is a mistake which the policy can't see, or one free attempt too many of a kind that has a limit.
    """
    pod = next((pod for pod in reversed(state.pods) if pod.ended), None)
    if pod is None:
        return None
    how = ending(pod, memory_limit)
    if how.failure is None:
        return None
    if how.retry is Retry.NEVER:
        seen = pod.exit_code in (*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL) and not pod.held_open
        return None if seen or pod not in state.current else how.failure
    limit = failure_class(how.reason).limit
    if limit is None or count(status, stage, how.reason) <= limit:
        return None
    message = f"{limit + 1} times: {how.failure.message}"
    return how.failure.model_copy(update={"message": one_line(message, MAX_MESSAGE)})
