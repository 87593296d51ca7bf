"""Why an attempt ended, and what that means: one pod in, one verdict out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.reasons import BY_EXIT_CODE, FAILURES, OUT_OF_MEMORY_KILL, Reason, Retry
from finetune_api.results import FailureStatus
from finetune_api.spec import FineTuneJobSpec
from finetune_operator.finetunejob.observed import PodState
from finetune_operator.runtime.messages import one_line, with_advice

COMPLETED = "Completed"
RESULT_LOST = "ResultLost"
# The kubelet's reason for a container of which it knows nothing any more; the exit code 137 beside it is made up.
CONTAINER_LOST = "ContainerStatusUnknown"
# A pod that came to a node which had no room left; the kubelet calls that an eviction too.
_NOT_ADMITTED = "Evicted: The node had condition"
MAX_LOG = 2048
# Kubernetes' reasons of a DisruptionTarget that mean a lost node rather than a wanted eviction.
_NODE_REASONS = frozenset({"DeletionByPodGC"})


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``failure`` is None for a success and for what starts again by itself."""

    reason: str
    retry: Retry | None
    failure: FailureStatus | None = None


def ending(pod: PodState, spec: FineTuneJobSpec) -> Ending:
    """Classifies an ended pod, in the order of the Job's podFailurePolicy."""
    if pod.phase == "Succeeded":
        return Ending(COMPLETED if pod.result else RESULT_LOST, None)
    if pod.disruption:
        reason = Reason.NODE_LOST if pod.disruption in _NODE_REASONS else Reason.PREEMPTED
        return _failed(pod, reason, pod.note or pod.disruption)
    if pod.note.startswith("Evicted") and not pod.note.startswith(_NOT_ADMITTED):
        # Before what the trainer says of it, which is no more than that it was told to stop.
        return _evicted(pod)
    if pod.result and pod.result.failure:
        failure = pod.result.failure
        reported = failure.model_copy(update={"exit_code": pod.exit_code})
        return Ending(failure.reason, FAILURES[failure.reason].retry, reported)
    if pod.terminated_reason == CONTAINER_LOST:
        return _failed(pod, Reason.NODE_LOST, f"pod {pod.name}: its node lost track of the container")
    if pod.exit_code == OUT_OF_MEMORY_KILL or pod.terminated_reason == "OOMKilled":
        return _killed(pod, spec)
    if pod.exit_code is None:
        text = f"pod {pod.name} failed before its container ended: {pod.note or 'no reason given'}"
        return _failed(pod, Reason.TRAINER_CRASHED, text)
    entry = BY_EXIT_CODE.get(pod.exit_code, FAILURES[Reason.TRAINER_CRASHED])
    cause = f" ({pod.terminated_reason})" if pod.terminated_reason not in ("", "Error") else ""
    return _failed(pod, entry.reason, f"pod {pod.name} ended with exit code {pod.exit_code}{cause}")


def _failed(pod: PodState, reason: Reason, text: str) -> Ending:
    return _ended(pod, reason, with_advice(reason, text))


def _evicted(pod: PodState) -> Ending:
    """An eviction that is no disruption: the pod itself used more scratch space than it may."""
    advice = (
        "raise limits of ephemeral-storage in spec.runtime.resources, or have the profile cache downloads on a claim"
    )
    return _ended(pod, Reason.STORAGE_FULL, f"pod {pod.name} was evicted: {pod.note.rstrip('. ')}; {advice}")


def _killed(pod: PodState, spec: FineTuneJobSpec) -> Ending:
    """Host memory: what helps is another than for GPU memory, so the table's advice doesn't fit."""
    by_kernel = pod.terminated_reason == "OOMKilled"
    if pod.deletion and not by_kernel:
        return _failed(pod, Reason.TRAINER_CRASHED, f"pod {pod.name} was deleted and killed after its grace period")
    limit = spec.runtime.resources.limits.get("memory")
    bound = f"its memory limit of {limit}" if limit else "the node's memory"
    what = "was killed at" if by_kernel else "was killed (exit code 137), most likely at"
    advice = "raise spec.runtime.resources.limits.memory, or lower dataset.workers, maxSequenceLength or microBatchSize"
    return _ended(pod, Reason.OUT_OF_MEMORY, f"pod {pod.name} {what} {bound}; {advice}")


def _ended(pod: PodState, reason: Reason, message: str) -> Ending:
    log = pod.result.failure.log if pod.result and pod.result.failure else pod.message[-MAX_LOG:]
    failure = FailureStatus(reason=reason, message=one_line(message), exit_code=_byte(pod.exit_code), log=log)
    return Ending(reason, FAILURES[reason].retry, failure)


def _byte(code: int | None) -> int | None:
    return code if code is not None and 0 <= code <= 255 else None
