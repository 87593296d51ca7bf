"""Why a stage's pod does not run yet, in the words of whoever holds it up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_api.reasons import Reason
from finetune_api.results import Stage
from finetune_api.status import Condition
from finetune_operator.finetunejob.observed import PodState, StageState
from finetune_operator.finetunejob.transitions import ACTIVE, PENDING

# A pod that should be gone for this long sits on a node that does not answer.
LOST_AFTER = timedelta(seconds=30)
_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True)
class Wait:
    """The reason and message of an active stage, and when to look again though nothing has changed."""

    reason: str
    message: str
    revisit: float | None = None  # seconds


def wait_of(stage: Stage, state: StageState, before: Condition | None, now: datetime) -> Wait:
    """What a stage with an active Job waits for, or that it runs. ``before`` is the condition as it stands."""
    pod = state.newest
    name = state.job.name if state.job else "the stage"
    plain = Wait(PENDING, f"waiting for a pod of Job {name} to run")
    if pod is None or pod.ended:
        return plain
    if pod.deletion:
        return _ending(pod, pod.deletion, now, plain)
    if pod.running:
        return Wait(ACTIVE[stage], f"pod {pod.name} runs on node {pod.node}")
    if pod.unschedulable:
        return Wait(Reason.UNSCHEDULABLE, pod.unschedulable)
    if pod.waiting_reason in _PULL_REASONS:
        return _pulling(pod, before)
    if pod.waiting_reason in _CREATE_REASONS:
        return Wait(Reason.POD_REJECTED, f"{pod.waiting_reason}: {pod.waiting_message}")
    return plain


def _ending(pod: PodState, deletion: datetime, now: datetime, plain: Wait) -> Wait:
    overdue = now - deletion
    if overdue < LOST_AFTER:
        return Wait(plain.reason, plain.message, (LOST_AFTER - overdue).total_seconds())
    message = (
        f"pod {pod.name} on node {pod.node} should have ended at {deletion:%H:%M:%S} UTC: "
        "under podReplacementPolicy Failed it blocks its replacement until the node is removed "
        "or tainted node.kubernetes.io/out-of-service"
    )
    return Wait(Reason.NODE_LOST, message)


def _pulling(pod: PodState, before: Condition | None) -> Wait:
    """The kubelet alternates between the error and its back-off: the first message is kept, to write status once."""
    known = before is not None and before.reason == Reason.IMAGE_PULL_FAILED
    if known and before is not None and pod.waiting_reason == "ImagePullBackOff":
        return Wait(Reason.IMAGE_PULL_FAILED, before.message)
    return Wait(Reason.IMAGE_PULL_FAILED, f"{pod.waiting_reason}: {pod.waiting_message}")
