"""What a stage whose Job is there waits for, or that it runs. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from finetune_api.base import with_advice
from finetune_api.reasons import FAILURES, Reason
from finetune_api.results import MAX_MESSAGE
from finetune_api.stages import Stage
from finetune_api.status import PENDING, Condition
from finetune_operator.finetunejob.steps import Said, Wait
from finetune_operator.workload.state import JobState, PodState, Waiting

# A pod that should be gone for this long sits on a node that does not answer.
LOST_AFTER = timedelta(seconds=30)
# The kubelet's Events about volumes, whatever the plug-in.
_MOUNT_REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "VolumeResizeFailed"})


def for_a_pod(job: str, ended: str = "") -> str:
    """What is said while no pod of a Job runs. ``ended`` says how the last one ended."""
    return f"{ended}; Job {job} starts again from step 0" if ended else f"waiting for a pod of Job {job} to run"


def suspended(job: JobState) -> Wait:
    """A Job that somebody else holds."""
    advice = FAILURES[Reason.SUSPENDED].advice.replace("<name>", job.name)
    return Wait(Reason.SUSPENDED, with_advice(f"Job {job.name} is suspended", advice, MAX_MESSAGE))


def held_open(pod: PodState) -> Wait:
    """A trainer that has ended in a pod that has not."""
    how = f"exit code {pod.exit_code}"
    text = f"the trainer of pod {pod.name} has ended ({how}), but container {pod.held_open} beside it still runs"
    return Wait(PENDING, text)


def wait_of(stage: Stage, pod: PodState, before: Condition | None, plain: Wait, now: datetime) -> Wait:
    """What a pod that has not ended waits for, or that it runs.

    ``before`` is the condition as it stands, ``plain`` what is said for want of a reason.
    """
    if pod.deletion:
        return _leaving(pod, pod.deletion, now)
    if pod.running:
        return Wait(stage.active, f"pod {pod.name} runs on node {pod.node}")
    return _told(pod.waiting, before) if pod.waiting else plain


def warned(pod: PodState, warnings: tuple[Said, ...], plain: Wait) -> Wait:
    """Why a pod does not start on its node, in the words of the newest Event that says so."""
    said = next((one for one in warnings if one.reason != "FailedScheduling"), None)
    if said is None:
        return plain
    text = f"pod {pod.name} on node {pod.node}: {said.reason}: {said.message}"
    if said.reason in _MOUNT_REASONS:
        return Wait(Reason.FAILED_MOUNT, with_advice(text, FAILURES[Reason.FAILED_MOUNT].advice, MAX_MESSAGE))
    return Wait(PENDING, text)


def _leaving(pod: PodState, deletion: datetime, now: datetime) -> Wait:
    overdue = now - deletion
    if overdue < LOST_AFTER:
        text = f"waiting until pod {pod.name} on node {pod.node}, which is being deleted, has ended"
        return Wait(PENDING, text, (LOST_AFTER - overdue).total_seconds())
    message = (
        f"pod {pod.name} on node {pod.node} should have ended at {deletion:%H:%M:%S} UTC: "
        "under podReplacementPolicy Failed it blocks its replacement until the node is removed "
        "or tainted node.kubernetes.io/out-of-service"
    )
    return Wait(Reason.NODE_LOST, message)


def _told(waiting: Waiting, before: Condition | None) -> Wait:
    """The kubelet alternates between an error and its back-off: the first message is kept, to write status once."""
    if waiting.again and before is not None and before.reason == waiting.reason:
        return Wait(waiting.reason, before.message)
    return Wait(waiting.reason, waiting.message)
