"""How a status moves: begun, active, a stage recorded, succeeded, failed, not understood. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from finetune_api.base import one_line
from finetune_api.gate_verdicts import gates_failure
from finetune_api.job import ObjectMeta
from finetune_api.progress import ProgressStatus, percent_of
from finetune_api.reasons import Reason, Retry, failure_class
from finetune_api.results import (
    MAX_ADVICE,
    MAX_MESSAGE,
    Advice,
    EvaluationStatus,
    FailureStatus,
    LineageStatus,
    StageLineage,
    StageResult,
)
from finetune_api.stages import TRAIN, Stage
from finetune_api.status import (
    CONDITIONS,
    FAILED,
    GATES_PASSED,
    PENDING,
    REUSED,
    SUCCEEDED,
    Condition,
    FineTuneJobStatus,
)
from finetune_operator.finetunejob.attempts import with_stage
from finetune_operator.finetunejob.job_object import Spec
from finetune_operator.finetunejob.pod_endings import COMPLETED
from finetune_operator.finetunejob.summary import (
    evaluation_message,
    gates_message,
    success_message,
    training_message,
)
from finetune_operator.workload.state import PodState

ACTIVE = "Active"

Value = Literal["True", "False", "Unknown"]


def with_condition(
    status: FineTuneJobStatus, kind: str, value: Value, reason: str, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status with one condition set. Its transition time moves only when its status does."""
    before = status.condition(kind)
    changed = now if before is None or before.status != value else before.last_transition_time
    condition = Condition(
        type=kind,
        status=value,
        reason=reason,
        message=one_line(message, MAX_MESSAGE),
        last_transition_time=changed,
        observed_generation=status.observed_generation,
    )
    # What a newer version may have added to it stays.
    if before:
        known = {name: getattr(condition, name) for name in Condition.model_fields}
        condition = before.model_copy(update=known)
    others = [one for one in status.conditions if one.type != kind]
    order = {name: index for index, name in enumerate(CONDITIONS)}
    conditions = sorted([*others, condition], key=lambda one: order.get(one.type, len(order)))
    return status.model_copy(update={"conditions": conditions})


def begin(status: FineTuneJobStatus, metadata: ObjectMeta, now: datetime) -> FineTuneJobStatus:
    """A status that speaks of the current generation and knows when the job was first seen."""
    return status.model_copy(
        update={"observed_generation": metadata.generation, "start_time": status.start_time or now}
    )


def active(
    status: FineTuneJobStatus,
    stages: tuple[Stage, ...],
    stage: Stage,
    *,
    reason: str,
    message: str,
    now: datetime,
    gates: int = 0,
) -> FineTuneJobStatus:
    """The status while a stage waits or runs. ``reason`` is the stage's active word when its pod runs.

    ``gates`` is how many the spec has. The message stands in Succeeded, once; the other conditions repeat the reason
    alone.
    """
    for other in stages:
        if not status.holds(other.condition):
            here = other is stage
            text = "see Succeeded" if here else f"waits for stage {stages[stages.index(other) - 1]}"
            status = with_condition(status, other.condition, "Unknown", reason if here else PENDING, text, now)
    status = _in_work(status, reason, message, f"stage {stage}: {reason}", now)
    if gates and status.condition(GATES_PASSED) is None:
        status = with_condition(status, GATES_PASSED, "Unknown", PENDING, f"waits for stage {stages[-1]}", now)
    name = PENDING if stage is stages[0] and reason != stage.active else stage.active
    return status.model_copy(update={"stage": name, "progress": _progress_of_now(status, stage, reason)})


def unsupported(status: FineTuneJobStatus, message: str, now: datetime) -> FineTuneJobStatus:
    """The status of a job whose spec this version can't read: what has been reached, and what runs, stays as it is."""
    reason = Reason.UNSUPPORTED_SPEC.value
    status = _in_work(status, reason, message, "the spec is of another version", now)
    return status.model_copy(update={"stage": status.stage or PENDING})


def record(
    status: FineTuneJobStatus,
    spec: Spec,
    stage: Stage,
    *,
    pod: PodState,
    result: StageResult,
    profile_sha256: str | None,
    now: datetime,
) -> FineTuneJobStatus:
    """The status with a stage's result. What is recorded here is never computed again."""
    kept = status.stage_status(stage.name)
    kept = kept.model_copy(update={"completion_time": now, "lineage": _stage_lineage(pod, result, profile_sha256)})
    update: dict[str, Any] = {
        "lineage": _lineage(status, spec, result),
        "stages": with_stage(status, kept),
        "advice": _advice(status.advice, result.advice),
    }
    if stage is TRAIN:
        update |= {
            "dataset": result.dataset,
            "training": result.training,
            "memory": result.memory,
            "adapter": result.adapter,
            "model": result.model,
        }
    else:
        update |= {"evaluation": result.evaluation}
    status = status.model_copy(update=update)
    status = status.model_copy(update={"progress": _progress_at_the_end(status, stage, pod.name, result)})
    message = training_message(result) if stage is TRAIN else evaluation_message(result.evaluation)
    if result.reused:
        message = f"{_where(result)} is that of an identical job, nothing was computed: {message}"
    if pod.held_open:
        message = f"{message}; container {pod.held_open} of pod {pod.name} runs on beside it, until its Job is deleted"
    return with_condition(status, stage.condition, "True", REUSED if result.reused else COMPLETED, message, now)


def conclude(status: FineTuneJobStatus, spec: Spec, now: datetime) -> FineTuneJobStatus:
    """The status of a job whose stages are all recorded: succeeded, unless a gate says otherwise."""
    if not spec.gates:
        return _succeed(status, COMPLETED, now)
    failure = gates_failure(status.evaluation or EvaluationStatus(summary="", examples=0), spec.gates)
    if failure is None:
        status = with_condition(status, GATES_PASSED, "True", GATES_PASSED, gates_message(status.evaluation), now)
        return _succeed(status, GATES_PASSED, now)
    # What is not shown is not passed, but neither is it known to fail.
    value: Value = "False" if failure.reason == Reason.GATES_FAILED else "Unknown"
    status = with_condition(status, GATES_PASSED, value, failure.reason, "see Succeeded", now)
    return _fail(status, failure, f"the gates: {failure.reason}", now)


def _succeed(status: FineTuneJobStatus, reason: str, now: datetime) -> FineTuneJobStatus:
    status = with_condition(status, "Succeeded", "True", reason, success_message(status), now)
    status = with_condition(status, "Finished", "True", COMPLETED, "the job has succeeded", now)
    status = with_condition(status, "Reconciling", "False", COMPLETED, "nothing is left to do", now)
    return status.model_copy(update={"stage": SUCCEEDED, "completion_time": now})


def fail(status: FineTuneJobStatus, stage: Stage, failure: FailureStatus, now: datetime) -> FineTuneJobStatus:
    """The status of a job of which a stage has failed for good."""
    status = with_condition(status, stage.condition, "False", failure.reason, "see Succeeded", now)
    return _fail(status, failure, f"stage {stage} failed: {failure.reason}", now)


def _fail(status: FineTuneJobStatus, failure: FailureStatus, short: str, now: datetime) -> FineTuneJobStatus:
    reason = failure.reason
    status = with_condition(status, "Succeeded", "False", reason, failure.message, now)
    status = with_condition(status, "Finished", "True", reason, "the job has failed", now)
    status = with_condition(status, "Reconciling", "False", reason, "nothing is left to do", now)
    status = with_condition(status, "Stalled", "True", reason, short, now)
    # What was reached stays to be seen.
    update = {"stage": FAILED, "failure": failure, "completion_time": now, "progress": _stopped(status.progress)}
    return status.model_copy(update=update)


def _in_work(status: FineTuneJobStatus, reason: str, message: str, short: str, now: datetime) -> FineTuneJobStatus:
    status = with_condition(status, "Succeeded", "Unknown", reason, message, now)
    status = with_condition(status, "Finished", "False", ACTIVE, "the job has not ended", now)
    return with_condition(status, "Reconciling", "True", reason, short, now)


def _progress_of_now(status: FineTuneJobStatus, stage: Stage, reason: str) -> ProgressStatus | None:
    """What is still true of the progress once its attempt may have ended."""
    progress = status.progress
    if progress is None or progress.stage != stage.name:
        return progress
    ended = next((one for one in status.attempts if one.pod == progress.pod and one.end_time), None)
    if ended is None or ended.reason == COMPLETED:
        return progress if reason == stage.active else _stopped(progress)
    # What was reached stays to be seen, unless the next attempt counts anew.
    last = failure_class(ended.reason or "").retry is Retry.NEVER
    return _stopped(progress) if last or stage.resumes else None


def _stopped(progress: ProgressStatus | None) -> ProgressStatus | None:
    """Progress that moves no more: an estimate of the rest would be a lie."""
    return progress and progress.model_copy(update={"remaining_seconds": None, "remaining": None})


def _progress_at_the_end(status: FineTuneJobStatus, stage: Stage, pod: str, result: StageResult) -> ProgressStatus:
    """The last progress of a stage. Pushes are lossy, so it is written once, from the result."""
    pushed = status.progress if status.progress and status.progress.stage == stage.name else None
    training = status.training
    evaluated = status.evaluation.examples if status.evaluation else 0
    steps = training.steps if stage is TRAIN and training else evaluated
    speed = training.trained_tokens // training.runtime_seconds if training and training.runtime_seconds else None
    last = pushed or ProgressStatus(stage=stage.name)
    return last.model_copy(
        update={
            "pod": pod,
            "step": steps,
            "total_steps": steps,
            "percent": percent_of(steps, steps),
            "loss": training.final_loss if training else last.loss,
            "tokens_per_second": speed if stage is TRAIN and speed else last.tokens_per_second,
            "remaining_seconds": None,
            "summary": f"{steps}/{steps}",
            "remaining": None,
            "last_update_time": result.finished_at,
        }
    )


def _where(result: StageResult) -> str:
    if result.adapter:
        return f"the adapter at {result.adapter.uri}"
    if result.model:
        return f"the model at {result.model.uri}"
    report = result.evaluation.report_uri if result.evaluation else None
    return f"the report at {report}" if report else "the result"


def _lineage(status: FineTuneJobStatus, spec: Spec, result: StageResult) -> LineageStatus:
    """What both stages know of the run; a later stage adds to what an earlier one said."""
    known = status.lineage.model_dump(exclude_none=True) if status.lineage else {}
    told = result.lineage.model_dump(exclude_none=True) if result.lineage else {}
    ours = {
        "seed": spec.resolved.training.seed if spec.resolved.dataset else None,
        "training_sha256": spec.training_sha256,
        "evaluation_sha256": spec.evaluation_sha256,
    }
    said = {name: value for name, value in {**told, **known}.items() if value != ""}
    return LineageStatus(**{**said, **ours})


def _stage_lineage(pod: PodState, result: StageResult, profile_sha256: str | None) -> StageLineage:
    """What ran the stage: what node and Job say of it goes before what the trainer says of itself."""
    told = result.stage_lineage.model_dump(exclude_none=True) if result.stage_lineage else {}
    ours = {"image": pod.image[:512] or None, "profile_sha256": profile_sha256}
    return StageLineage(**{**told, **{name: value for name, value in ours.items() if value}})


def _advice(known: list[Advice], told: list[Advice]) -> list[Advice]:
    """Both stages' advice, each reason once."""
    by_reason = {one.reason: one for one in (*known, *told)}
    return list(by_reason.values())[:MAX_ADVICE]
