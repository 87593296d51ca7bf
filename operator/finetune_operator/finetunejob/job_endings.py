"""What a stage's Job failed of, and whether its policy failed it rightly. Pure."""

from __future__ import annotations

from finetune_api.reasons import NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL, Reason, Retry
from finetune_api.results import FailureStatus
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.observed import JobState, StageState
from finetune_operator.finetunejob.pod_endings import ending
from finetune_operator.runtime.messages import one_line, with_advice

# How attempts end at which no podFailurePolicy should stop: all it sees is 137, which also stands for a killed pod that
# somebody deleted and for a container that its node has lost. Not Interrupted: that may be a pod whose end nobody saw.
_TRIED_AGAIN = frozenset({Reason.TRAINER_CRASHED, Reason.NODE_LOST, Reason.PREEMPTED})


def cause(job: JobState, state: StageState, status: FineTuneJobStatus, spec: FineTuneJobSpec) -> FailureStatus:
    """What made the Job fail: the pod that its policy stopped at, else the newest that crashed."""
    endings = [how for how in (ending(pod, spec) for pod in state.current if pod.ended) if how.failure]
    final = next((how.failure for how in reversed(endings) if how.retry is Retry.NEVER), None)
    if final:
        return final
    crash = next((how.failure for how in reversed(endings) if how.retry is Retry.COUNTS), None)
    why = job.failed.message if job.failed else ""
    if crash is None:
        text = f"Job {job.name} failed: {why or 'no reason given'}"
        return FailureStatus(reason=Reason.TRAINER_CRASHED, message=with_advice(Reason.TRAINER_CRASHED, text))
    limit = spec.scheduling.backoff_limit
    if (status.crashes or 0) <= limit and not (job.failed and job.failed.reason == "BackoffLimitExceeded"):
        return crash
    message = f"more crashes than scheduling.backoffLimit {limit} allows; the last: {crash.message}"
    return crash.model_copy(update={"message": one_line(message)})


def stopped_too_early(job: JobState, status: FineTuneJobStatus, spec: FineTuneJobSpec) -> bool:
    """Whether the Job's policy stopped it at an attempt that is to be tried again."""
    if not job.failed or job.failed.reason != "PodFailurePolicy":
        return False
    last = next((one for one in reversed(status.attempts) if one.job_uid == job.uid and one.pod), None)
    return last is not None and last.reason in _TRIED_AGAIN and (status.crashes or 0) <= spec.scheduling.backoff_limit


def overlooked(state: StageState, spec: FineTuneJobSpec) -> FailureStatus | None:
    """The mistake that the newest ended pod ended with, when the Job's policy can't see it and would try again."""
    pod = next((pod for pod in reversed(state.current) if pod.ended), None)
    if pod is None or pod.exit_code in (*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL):
        return None
    how = ending(pod, spec)
    return how.failure if how.retry is Retry.NEVER else None
