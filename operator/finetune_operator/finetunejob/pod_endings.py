"""Why an attempt ended, and what that means: one pod in, one verdict out. Pure.

Here a preemption is told from a crash, a mistake from bad luck, and the node's fault from the trainer's.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.base import one_line, with_advice
from finetune_api.reasons import (
    BY_EXIT_CODE,
    FAILURES,
    OUT_OF_MEMORY_KILL,
    FailureClass,
    Reason,
    Retry,
    failure_class,
)
from finetune_api.results import MAX_LOG, MAX_MESSAGE, FailureStatus
from finetune_operator.workload.state import PodState

COMPLETED = "Completed"
RESULT_LOST = "ResultLost"
# The kubelet's reason for a container of which it knows nothing any more; the exit code 137 beside it is made up.
CONTAINER_LOST = "ContainerStatusUnknown"
# How the kubelet's messages of an eviction begin: the node runs out of something, or had before the pod came. What
# else it evicts for, the pod did itself: it used more scratch space than its limits allow.
_LOW = "Evicted: The node was low on resource"
_HAD = "Evicted: The node had condition"
# Kubernetes' reasons of a DisruptionTarget that mean a lost node rather than a wanted eviction.
_NODE_REASONS = frozenset({"DeletionByPodGC"})


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``failure`` is None for a success and for a result that got lost."""

    reason: str
    retry: Retry | None
    failure: FailureStatus | None = None


def ending(pod: PodState, memory_limit: str | None) -> Ending:
    """Classifies an ended pod, in the order of the Job's podFailurePolicy. ``memory_limit`` is the pod's, for words."""
    if pod.succeeded:
        return Ending(COMPLETED if pod.result else RESULT_LOST, None)
    if pod.note.startswith(_LOW):  # a disruption, too, but one that comes again and again
        return _failed(pod, Reason.NODE_PRESSURE, f"pod {pod.name} was evicted: {pod.note}")
    if pod.disruption:
        reason = Reason.NODE_LOST if pod.disruption in _NODE_REASONS else Reason.PREEMPTED
        return _failed(pod, reason, pod.note or pod.disruption)
    if pod.note.startswith("Evicted") and not pod.note.startswith(_HAD):
        # Before what the trainer says of it, which is no more than that it was told to stop.
        return _outgrown(pod)
    if pod.exit_code == OUT_OF_MEMORY_KILL and _stopped_in_time(pod):
        # A Job's policy takes its code for that of too little memory: such a Job is to make way.
        return _failed(pod, Reason.PREEMPTED, f"pod {pod.name} was told to stop, and killed before it had left")
    if pod.result and pod.result.failure:
        failure = pod.result.failure.model_copy(update={"exit_code": _byte(pod.exit_code)})
        return Ending(failure.reason, _class_of(failure.reason, pod.exit_code).retry, _tidy(failure))
    if pod.terminated_reason == CONTAINER_LOST:
        return _failed(pod, Reason.NODE_LOST, f"pod {pod.name}: its node lost track of the container")
    if pod.exit_code == OUT_OF_MEMORY_KILL or pod.terminated_reason == "OOMKilled":
        return _killed(pod, memory_limit)
    if pod.exit_code is None and pod.note:
        return _failed(pod, Reason.NODE_REFUSED, f"node {pod.node or '?'} did not admit pod {pod.name}: {pod.note}")
    if pod.exit_code is None and pod.failed_before:
        text = f"pod {pod.name} failed: container {pod.failed_before} ended badly before the trainer could start"
        advice = f"see kubectl logs {pod.name} -c {pod.failed_before}"
        return _ended(pod, Reason.TRAINER_CRASHED, with_advice(text, advice, MAX_MESSAGE))
    if pod.exit_code is None:
        return _failed(pod, Reason.TRAINER_CRASHED, f"pod {pod.name} failed before its container ended")
    entry = BY_EXIT_CODE.get(pod.exit_code, FAILURES[Reason.TRAINER_CRASHED])
    cause = f" ({pod.terminated_reason})" if pod.terminated_reason not in ("", "Error") else ""
    return _failed(pod, entry.reason, f"pod {pod.name} ended with exit code {pod.exit_code}{cause}")


def _stopped_in_time(pod: PodState) -> bool:
    """Whether the trainer had done all that it does when it is told to stop."""
    told = pod.result.failure if pod.result else None
    return told is not None and told.reason == Reason.INTERRUPTED


def _class_of(reason: str, exit_code: int | None) -> FailureClass:
    """A newer trainer may have a word that we don't know, under an exit code that we do."""
    return FAILURES.get(reason) or BY_EXIT_CODE.get(exit_code or 0) or failure_class(reason)


def _failed(pod: PodState, reason: str, text: str) -> Ending:
    return _ended(pod, reason, with_advice(text, failure_class(reason).advice, MAX_MESSAGE))


def _outgrown(pod: PodState) -> Ending:
    """An eviction that is no disruption: the pod itself used more scratch space than it may."""
    advice = (
        "raise limits of ephemeral-storage in spec.runtime.resources, or have the profile cache downloads on a claim"
    )
    text = f"pod {pod.name} was evicted: {pod.note}"
    return _ended(pod, Reason.STORAGE_FULL, with_advice(text, advice, MAX_MESSAGE))


def _killed(pod: PodState, memory_limit: str | None) -> Ending:
    """Host memory: what helps is another than for GPU memory, so the table's advice doesn't fit."""
    by_kernel = pod.terminated_reason == "OOMKilled"
    if pod.deletion and not by_kernel:
        return _failed(pod, Reason.TRAINER_CRASHED, f"pod {pod.name} was deleted and killed after its grace period")
    bound = f"its memory limit of {memory_limit}" if memory_limit else "the node's memory"
    what = "was killed at" if by_kernel else "was killed (exit code 137), most likely at"
    advice = "raise spec.runtime.resources.limits.memory, or lower dataset.workers, maxSequenceLength or microBatchSize"
    return _ended(pod, Reason.OUT_OF_MEMORY, f"pod {pod.name} {what} {bound}; {advice}")


def _ended(pod: PodState, reason: str, message: str) -> Ending:
    log = pod.result.failure.log if pod.result and pod.result.failure else pod.message[-MAX_LOG:]
    text = one_line(message, MAX_MESSAGE)
    failure = FailureStatus(reason=str(reason), message=text, exit_code=_byte(pod.exit_code), log=log)
    return Ending(str(reason), failure_class(reason).retry, _tidy(failure))


def _tidy(failure: FailureStatus) -> FailureStatus:
    """Absent, never empty."""
    return failure.model_copy(update={"log": failure.log or None})


def _byte(code: int | None) -> int | None:
    return code if code is not None and 0 <= code <= 255 else None
