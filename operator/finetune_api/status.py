"""``FineTuneJob.status``: what the operator tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel, Time
from finetune_api.progress import ProgressStatus
from finetune_api.results import (
    AdapterStatus,
    Count,
    EvaluationStatus,
    FailureStatus,
    LineageStatus,
    MemoryStatus,
    Short,
    Stage,
    TrainingStatus,
)

MAX_ATTEMPTS = 10
MAX_MESSAGE = 1024

ConditionType = Literal["Succeeded", "Trained", "Evaluated", "Reconciling", "Stalled"]
StageName = Literal["Pending", "Training", "Evaluating", "Succeeded", "Failed"]


class Condition(ApiModel):
    """A metav1.Condition."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Such as Succeeded.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="One word for tools.")
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = Field(default="", description="A line for people.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: Count | None = Field(default=None, description="Generation that it speaks of.")


class Attempt(ApiModel):
    """One pod of a stage's Job."""

    stage: Stage = Field(description="The stage.")
    number: Annotated[int, Field(ge=1)] = Field(description="Counts within the stage, from 1.")
    job_uid: Annotated[str, Field(max_length=64)] = Field(
        alias="jobUID", description="UID of the stage's Job; recorded before the Job may count as lost."
    )
    pod: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="The pod's name.")
    node: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="The node that ran it.")
    start_time: Time | None = Field(default=None, description="When the pod started.")
    end_time: Time | None = Field(default=None, description="When it ended.")
    reason: Short | None = Field(default=None, description="How it ended: Completed, or a failure reason.")


class FineTuneJobStatus(ApiModel):
    """What has become of the job. People read stage; tools read conditions."""

    observed_generation: Count | None = Field(default=None, description="Generation of the spec that this speaks of.")
    stage: StageName | None = Field(default=None, description="For people: Pending, Training, Evaluating, ...")
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        description="Succeeded is the verdict (Unknown while active); Reconciling and Stalled serve kstatus.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    progress: ProgressStatus | None = Field(default=None, description="How far the current stage has come.")
    attempts: list[Attempt] = Field(
        default=[],
        max_length=MAX_ATTEMPTS,
        description="The last 10 attempts, oldest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    crashes: Count | None = Field(default=None, description="Attempts that counted against backoffLimit.")
    start_time: Time | None = Field(default=None, description="When the operator first saw the job.")
    completion_time: Time | None = Field(default=None, description="When the job ended.")
    training: TrainingStatus | None = Field(default=None, description="What training came to.")
    memory: MemoryStatus | None = Field(default=None, description="Peak memory of training.")
    adapter: AdapterStatus | None = Field(default=None, description="Where the adapter lies.")
    evaluation: EvaluationStatus | None = Field(default=None, description="Base against tuned.")
    lineage: LineageStatus | None = Field(default=None, description="What it would take to repeat the run.")
    failure: FailureStatus | None = Field(default=None, description="Why it failed; absent unless it did.")

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of a type, if it is there."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def holds(self, kind: ConditionType) -> bool:
        """Whether a condition is there and True."""
        condition = self.condition(kind)
        return condition is not None and condition.status == "True"
