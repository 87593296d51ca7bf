"""How a status moves: begun, active, a stage recorded, succeeded, failed. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from finetune_api.job import ObjectMeta
from finetune_api.progress import ProgressStatus, percent_of
from finetune_api.results import FailureStatus, LineageStatus, Stage, StageResult
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import ConditionType, FineTuneJobStatus, StageName
from finetune_operator.finetunejob.conditions import with_condition
from finetune_operator.finetunejob.observed import PodState, StageState
from finetune_operator.finetunejob.pod_endings import COMPLETED
from finetune_operator.finetunejob.summary import evaluation_message, success_message, training_message

RECORDED: dict[Stage, ConditionType] = {"Train": "Trained", "Evaluate": "Evaluated"}
ACTIVE: dict[Stage, StageName] = {"Train": "Training", "Evaluate": "Evaluating"}
PENDING = "Pending"


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
) -> FineTuneJobStatus:
    """The status while a stage waits or runs. ``reason`` is Training or Evaluating when its pod runs."""
    for other in stages:
        if not status.holds(RECORDED[other]):
            here = other == stage
            status = with_condition(
                status,
                RECORDED[other],
                "Unknown",
                reason if here else PENDING,
                message if here else "waits for training",
                now,
            )
    status = with_condition(status, "Succeeded", "Unknown", reason, message, now)
    status = with_condition(status, "Reconciling", "True", reason, message, now)
    name: StageName = "Pending" if stage == "Train" and reason != ACTIVE[stage] else ACTIVE[stage]
    return status.model_copy(update={"stage": name})


def record(
    status: FineTuneJobStatus,
    spec: FineTuneJobSpec,
    stage: Stage,
    *,
    pod: PodState,
    result: StageResult,
    state: StageState,
    now: datetime,
) -> FineTuneJobStatus:
    """The status with a stage's result. What is recorded here is never computed again."""
    update: dict[str, Any] = {"lineage": _lineage(status, spec, pod, result, state)}
    if stage == "Train":
        update |= {"training": result.training, "memory": result.memory, "adapter": result.adapter}
    else:
        update |= {"evaluation": result.evaluation}
    status = status.model_copy(update=update)
    status = status.model_copy(update={"progress": _progress(status, stage, pod.name, result)})
    message = training_message(result) if stage == "Train" else evaluation_message(result.evaluation)
    return with_condition(status, RECORDED[stage], "True", COMPLETED, message, now)


def succeed(status: FineTuneJobStatus, now: datetime) -> FineTuneJobStatus:
    """The status of a job whose stages are all recorded."""
    message = success_message(status)
    status = with_condition(status, "Succeeded", "True", COMPLETED, message, now)
    status = with_condition(status, "Reconciling", "False", COMPLETED, "", now)
    return status.model_copy(update={"stage": "Succeeded", "completion_time": now})


def fail(status: FineTuneJobStatus, stage: Stage, failure: FailureStatus, now: datetime) -> FineTuneJobStatus:
    """The status of a job that has failed for good."""
    reason, message = failure.reason.value, failure.message
    status = with_condition(status, RECORDED[stage], "False", reason, message, now)
    status = with_condition(status, "Succeeded", "False", reason, message, now)
    status = with_condition(status, "Reconciling", "False", reason, "", now)
    status = with_condition(status, "Stalled", "True", reason, message, now)
    # What was reached stays to be seen; an estimate of the rest would be a lie.
    reached = (
        status.progress.model_copy(update={"remaining_seconds": None, "remaining": ""}) if status.progress else None
    )
    update = {"stage": "Failed", "failure": failure, "completion_time": now, "progress": reached}
    return status.model_copy(update=update)


def _progress(status: FineTuneJobStatus, stage: Stage, pod: str, result: StageResult) -> ProgressStatus:
    """The last progress of a stage. Pushes are lossy, so it is written once, from the result."""
    pushed = status.progress if status.progress and status.progress.stage == stage else ProgressStatus(stage=stage)
    training = status.training
    evaluated = status.evaluation.examples if status.evaluation else 0
    steps = training.steps if stage == "Train" and training else evaluated
    speed = training.trained_tokens // training.runtime_seconds if training and training.runtime_seconds else None
    return pushed.model_copy(
        update={
            "pod": pod,
            "step": steps,
            "total_steps": steps,
            "percent": percent_of(steps, steps),
            "loss": training.final_loss if training else pushed.loss,
            "tokens_per_second": speed if stage == "Train" and speed else pushed.tokens_per_second,
            "remaining_seconds": 0,
            "summary": f"{steps}/{steps}",
            "remaining": "0s",
            "last_update_time": result.finished_at,
        }
    )


def _lineage(
    status: FineTuneJobStatus, spec: FineTuneJobSpec, pod: PodState, result: StageResult, state: StageState
) -> LineageStatus:
    """What both stages know of the run; a later stage adds to what an earlier one said."""
    known = status.lineage.model_dump(exclude_defaults=True) if status.lineage else {}
    told = result.lineage.model_dump(exclude_defaults=True) if result.lineage else {}
    ours = {"image": pod.image[:512], "profile_sha256": state.profile_sha256}
    seen = {name: value for name, value in ours.items() if value}
    return LineageStatus(**{**told, **seen, **known, "spec_sha256": spec.sha256(), "seed": spec.training.seed})
