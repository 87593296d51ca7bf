"""``FineTuneJob.status``: what the operator tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import MAX_COUNT, Count, StatusModel, Time, Word
from finetune_api.progress import ProgressStatus
from finetune_api.results import (
    MAX_ADVICE,
    MAX_MESSAGE,
    AdapterStatus,
    Advice,
    DatasetStatus,
    EvaluationStatus,
    FailureStatus,
    LineageStatus,
    MemoryStatus,
    ModelStatus,
    StageLineage,
    TrainingStatus,
)

MAX_ATTEMPTS = 10

# Types of conditions in the order in which they are written. Succeeded is the verdict, Finished is True at either end;
# Reconciling and Stalled are what kstatus reads. GatesPassed is there only for jobs with gates.
GATES_PASSED = "GatesPassed"
CONDITIONS = ("Succeeded", "Finished", "Trained", "Evaluated", GATES_PASSED, "Reconciling", "Stalled")
PENDING, SUCCEEDED, FAILED = "Pending", "Succeeded", "Failed"
# The reason of a stage's condition whose result an identical job had already.
REUSED = "Reused"


class Condition(StatusModel):
    """A metav1.Condition."""

    type: Word = Field(description="Such as Succeeded.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Word = Field(description="One word for tools.")
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = Field(default="", description="A line for people.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: Count | None = Field(default=None, description="Generation that it speaks of.")


class StageStatus(StatusModel):
    """What is kept of a stage: its budget, its times, and what ran it."""

    name: Word = Field(description="The stage: Train, Evaluate.")
    job_uid: Annotated[str, Field(max_length=64)] | None = Field(
        default=None,
        alias="jobUID",
        description="UID of the stage's newest Job of which a pod has run.",
    )
    attempts: Count = Field(default=0, description="Pods that have run for the stage, over all its Jobs.")
    crashes: Count = Field(default=0, description="Of these, attempts that counted against backoffLimit.")
    active_seconds: Count = Field(default=0, description="Seconds that pods of ended attempts ran, summed.")
    start_time: Time | None = Field(default=None, description="When the first pod started.")
    completion_time: Time | None = Field(default=None, description="When the result was recorded.")
    lineage: StageLineage | None = Field(default=None, description="What ran the stage.")


class Attempt(StatusModel):
    """One pod of a stage's Job."""

    stage: Word = Field(description="The stage.")
    number: Annotated[int, Field(ge=1, le=MAX_COUNT)] = Field(description="Counts within the stage, from 1.")
    job_uid: Annotated[str, Field(max_length=64)] = Field(alias="jobUID", description="UID of the stage's Job.")
    pod: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="The pod's name.")
    pod_uid: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, alias="podUID", description="The pod's UID: each pod is counted once."
    )
    node: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="The node that ran it.")
    start_time: Time | None = Field(default=None, description="When the pod started.")
    end_time: Time | None = Field(default=None, description="When it ended.")
    reason: Word | None = Field(default=None, description="How it ended: Completed, or a failure reason.")


class FineTuneJobStatus(StatusModel):
    """What has become of the job. People read stage; tools read conditions."""

    observed_generation: Count | None = Field(default=None, description="Generation of the spec that this speaks of.")
    stage: Word | None = Field(
        default=None, description="For people: Pending, Training, Evaluating, Succeeded, Failed."
    )
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        description="Succeeded is the verdict (Unknown while active); Finished is True at either end; Reconciling and "
        "Stalled serve kstatus.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    progress: ProgressStatus | None = Field(default=None, description="How far the running attempt has come.")
    stages: list[StageStatus] = Field(
        default=[],
        max_length=8,
        description="What is kept of each stage that has begun.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    attempts: list[Attempt] = Field(
        default=[],
        max_length=MAX_ATTEMPTS,
        description="The last 10 attempts, oldest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    start_time: Time | None = Field(default=None, description="When the operator first saw the job.")
    completion_time: Time | None = Field(default=None, description="When the job ended.")
    dataset: DatasetStatus | None = Field(default=None, description="What was trained on.")
    training: TrainingStatus | None = Field(default=None, description="What training came to.")
    memory: MemoryStatus | None = Field(default=None, description="Peak memory of training.")
    adapter: AdapterStatus | None = Field(default=None, description="Where the adapter lies.")
    model: ModelStatus | None = Field(default=None, description="Where the whole model lies, of format Merged16Bit.")
    evaluation: EvaluationStatus | None = Field(default=None, description="Base against tuned.")
    lineage: LineageStatus | None = Field(default=None, description="What the run was made from.")
    advice: list[Advice] = Field(
        default=[],
        max_length=MAX_ADVICE,
        description="What a careful user would want to know; it stops nothing.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["reason"]},
    )
    failure: FailureStatus | None = Field(default=None, description="Why it failed; absent unless it did.")

    def condition(self, kind: str) -> Condition | None:
        """The condition of a type, if it is there."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def holds(self, kind: str) -> bool:
        """Whether a condition is there and True."""
        condition = self.condition(kind)
        return condition is not None and condition.status == "True"

    @property
    def finished(self) -> bool:
        """Whether the verdict is in: such a job never starts anything again."""
        verdict = self.condition("Succeeded")
        return verdict is not None and verdict.status != "Unknown"

    def stage_status(self, name: str) -> StageStatus:
        """What is kept of a stage; an empty entry before it has begun."""
        return next((entry for entry in self.stages if entry.name == name), StageStatus(name=name))
