"""What a stage whose Job is there waits for, in the words of whoever holds it up, or that it runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finetune_api.base import with_advice
from finetune_api.reasons import FAILURES, Reason, Retry, failure_class
from finetune_api.results import MAX_MESSAGE
from finetune_api.status import PENDING, Condition
from finetune_operator.finetunejob.admission import SOON
from finetune_operator.finetunejob.attempts import last_ended
from finetune_operator.finetunejob.job_endings import within_budget
from finetune_operator.finetunejob.steps import LookUp, Need, Said, Situation, Wait
from finetune_operator.workload.order import claims
from finetune_operator.workload.state import JobState, PodState, Waiting

# A Job gets its first pod within moments, and a pod that came to a node its volumes: why not stands in Events only.
DUE = timedelta(seconds=5)
LOOK_AGAIN = 30.0
CLAIM_SECONDS = 15.0
# A pod that should be gone for this long sits on a node that does not answer.
LOST_AFTER = timedelta(seconds=30)
# Containers beside the trainer get so long to end after it, before their Job makes way: the pod holds a GPU.
SIDECAR_GRACE = timedelta(seconds=60)
# The kubelet's Events about volumes, whatever the plug-in.
_MOUNT_REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "VolumeResizeFailed"})


@dataclass(frozen=True)
class HeldOpen:
    """A pod whose trainer has ended, and that does not end for a container beside it, for longer than it may."""

    pod: PodState


def for_a_pod(job: str) -> str:
    """What is said while a Job has had no pod."""
    return f"waiting for a pod of Job {job} to run"


def waiting(at: Situation, job: JobState) -> Wait | LookUp | HeldOpen:
    """What a stage with an active Job waits for, or what has to be looked up to tell."""
    if job.suspended:
        return _suspended(job)
    pod, plain = at.state.newest, _plain(at, job)
    if pod and pod.held_open and pod in at.state.current:
        return _held_open(pod, at.now)
    if pod is None or pod.ended:
        return _without_pod(at, job, plain)
    if pod.deletion:
        return _leaving(pod, pod.deletion, at.now)
    if pod.running and pod.silent_node:
        return Wait(Reason.NODE_LOST, f"node {pod.node} does not answer: pod {pod.name} may run on it, or not")
    if pod.running:
        return Wait(at.stage.active, f"pod {pod.name} runs on node {pod.node}")
    if pod.waiting and pod.waiting.reason == Reason.UNSCHEDULABLE:
        return _unschedulable(at, pod.waiting)
    if pod.waiting:
        return _told(pod.waiting, at.before.condition("Succeeded"))
    return _starting(at, pod, plain)


def _plain(at: Situation, job: JobState) -> Wait:
    """What is said while nobody says why no pod runs."""
    last = last_ended(at.status, at.stage)
    if last is None:
        return Wait(PENDING, for_a_pod(job.name))
    ended = f"attempt {last.number} ended ({last.reason})"
    mistake = failure_class(last.reason or "").retry is Retry.NEVER
    if last.job_uid == job.uid and (mistake or not within_budget(at.status, at.stage, at.backoff_limit)):
        return Wait(PENDING, f"{ended}; Job {job.name} is about to fail")
    begin = ", from the last checkpoint if there is one" if at.stage.resumes else " from the beginning"
    return Wait(PENDING, f"{ended}; Job {job.name} starts again{begin}")


def _suspended(job: JobState) -> Wait:
    """A Job that somebody else holds."""
    advice = FAILURES[Reason.SUSPENDED].advice.replace("<name>", job.name)
    return Wait(Reason.SUSPENDED, with_advice(f"Job {job.name} is suspended", advice, MAX_MESSAGE))


def _held_open(pod: PodState, now: datetime) -> Wait | HeldOpen:
    """The trainer ended without a result, and its Job does not see it."""
    age = now - (pod.finished or now)
    if age >= SIDECAR_GRACE:
        return HeldOpen(pod)
    how = f"exit code {pod.exit_code}"
    text = f"the trainer of pod {pod.name} has ended ({how}), but container {pod.held_open} beside it has not"
    return Wait(PENDING, text, (SIDECAR_GRACE - age).total_seconds())


def _without_pod(at: Situation, job: JobState, plain: Wait) -> Wait | LookUp:
    """The first pod or a replacement is due. Its controller backs off for minutes after a crash: that is no refusal."""
    last = last_ended(at.status, at.stage)
    since = last.end_time if last and last.job_uid == job.uid else None
    age = at.now - (since or job.created or at.now)
    if age < DUE:
        return replace(plain, revisit=(DUE - age).total_seconds())
    if at.facts.warnings is None:
        return LookUp(Need.WARNINGS, job.uid, since)
    rejected = next((one.message for one in at.facts.warnings if one.reason == "FailedCreate"), "")
    # The controller tries again after 10, 20, 40 s and so on, and so does the look for what came of it.
    revisit = min(age.total_seconds(), LOOK_AGAIN)
    return Wait(Reason.POD_REJECTED, rejected, revisit) if rejected else replace(plain, revisit=revisit)


def being_deleted(at: Situation, job: JobState) -> Wait:
    """What a stage waits for while its Job is on its way out, before it gets another."""
    pod = at.state.newest
    if pod and pod.deletion and not pod.ended:
        return replace(_leaving(pod, pod.deletion, at.now), revisit=SOON)
    held = f", held by {' and '.join(job.finalizers)}" if job.finalizers else ""
    return Wait(PENDING, f"waiting until Job {job.name} is gone{held}", SOON)


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


def _unschedulable(at: Situation, told: Waiting) -> Wait | LookUp:
    """A missing claim reads as Unschedulable; only a live look tells the two apart. Neither times out."""
    wait = Wait(told.reason, told.message)
    before = at.before.condition("Succeeded")
    looked = before is not None and before.reason == told.reason and "persistentvolumeclaim" not in told.message
    if looked or not claims(at.spec.resolved):
        return wait
    if at.facts.missing_claims is None:
        return LookUp(Need.CLAIMS)
    if not at.facts.missing_claims:
        return wait
    names = ", ".join(f"{at.job.metadata.namespace}/{name}" for name in at.facts.missing_claims)
    text = f"there is no PersistentVolumeClaim {names}"
    advice = FAILURES[Reason.VOLUME_NOT_FOUND].advice
    return Wait(Reason.VOLUME_NOT_FOUND, with_advice(text, advice, MAX_MESSAGE), CLAIM_SECONDS)


def _told(waiting: Waiting, before: Condition | None) -> Wait:
    """The kubelet alternates between an error and its back-off: the first message is kept, to write status once."""
    if waiting.again and before is not None and before.reason == waiting.reason:
        return Wait(waiting.reason, before.message)
    return Wait(waiting.reason, waiting.message)


def _starting(at: Situation, pod: PodState, plain: Wait) -> Wait | LookUp:
    """A pod that does not start: no scheduler sees it, or on its node it loads its image or waits for a volume."""
    age = at.now - (pod.started or pod.created or at.now)
    if age < DUE:
        return replace(plain, revisit=(DUE - age).total_seconds())
    if at.facts.warnings is None:
        return LookUp(Need.WARNINGS, pod.uid)
    if pod.initializing:
        plain = Wait(
            PENDING, f"pod {pod.name} on node {pod.node}: container {pod.initializing} runs before the trainer"
        )
    elif not pod.node:
        plain = Wait(PENDING, f"pod {pod.name} waits for a scheduler: none has said anything of it yet")
    return replace(_warned(pod, at.facts.warnings, plain), revisit=min(age.total_seconds(), LOOK_AGAIN))


def _warned(pod: PodState, warnings: tuple[Said, ...], plain: Wait) -> Wait:
    """Why a pod does not start, in the words of the newest Event that says so."""
    # Once it has come to a node, the scheduler's are past.
    said = next((one for one in warnings if not pod.node or one.reason != "FailedScheduling"), None)
    if said is None:
        return plain
    where = f"pod {pod.name} on node {pod.node}" if pod.node else f"pod {pod.name}"
    text = f"{where}: {said.reason}: {said.message}"
    if said.reason == "FailedScheduling":
        return Wait(Reason.UNSCHEDULABLE, text)
    if said.reason in _MOUNT_REASONS:
        return Wait(Reason.FAILED_MOUNT, with_advice(text, FAILURES[Reason.FAILED_MOUNT].advice, MAX_MESSAGE))
    return Wait(PENDING, text)
