"""The decision: (the object as it stands, a report) → what becomes of the report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_api.progress import ProgressStatus
from finetune_api.status import FineTuneJobStatus
from finetune_operator.gateway.decision import CurrentJob, Decision, Report, decide, json_patch
from finetune_operator.gateway.identity import JobKey, Reporter

NOW = datetime(2026, 1, 1, 8, tzinfo=UTC)
TRAINER = Reporter(JobKey("ml", "medqa", "uid-1"), "Train", "medqa-train-a", "pod-a", NOW, "batch-1")
EVALUATOR = replace(TRAINER, stage="Evaluate", pod="medqa-eval-b", pod_uid="pod-b", batch_job_uid="batch-2")

TRAINING = {"stage": "Train", "number": 1, "jobUID": "batch-1", "pod": "medqa-train-a"}
RETRIED = {"stage": "Train", "number": 2, "jobUID": "batch-1", "pod": "medqa-train-c"}
EVALUATING = {"stage": "Evaluate", "number": 1, "jobUID": "batch-2", "pod": "medqa-eval-b"}
ENDED = {"endTime": "2026-01-01T09:00:00Z", "reason": "Completed"}


def condition(kind: str, status: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Test", "lastTransitionTime": "2026-01-01T08:00:00Z"}


def status(*attempts: dict[str, Any], conditions: tuple[tuple[str, str], ...] = (), **fields: Any) -> dict[str, Any]:
    conditions = (("Succeeded", "Unknown"), *conditions)
    listed = [condition(*each) for each in dict(conditions).items()]
    return {"stage": "Training", "conditions": listed, "attempts": list(attempts), **fields}


def shown(pod: str, step: int, stage: str = "Train") -> dict[str, Any]:
    return {"stage": stage, "pod": pod, "step": step}


def current(fields: dict[str, Any] | None, uid: str = "uid-1", deleting: bool = False) -> CurrentJob:
    return CurrentJob(uid, FineTuneJobStatus.model_validate(fields or {}), deleting)


def report(reporter: Reporter = TRAINER, step: int = 20) -> Report:
    return Report(reporter, ProgressStatus(stage=reporter.stage, pod=reporter.pod, step=step))


TABLE: list[tuple[str, CurrentJob | None, Report, Decision]] = [
    ("no object of that name", None, report(), Decision.FINISH),
    ("a namesake", current(status(TRAINING), uid="uid-2"), report(), Decision.FINISH),
    ("an object being deleted", current(status(TRAINING), deleting=True), report(), Decision.FINISH),
    ("no status yet", current(None), report(), Decision.WAIT),
    ("no attempt recorded yet", current(status()), report(), Decision.WAIT),
    ("the Job recorded, its pod not yet", current(status(TRAINING | {"pod": None})), report(), Decision.WRITE),
    ("the pod recorded", current(status(TRAINING)), report(), Decision.WRITE),
    (
        "a retry recorded with its Job, of which a pod reports that has ended",
        current(status(TRAINING | ENDED, RETRIED | {"pod": None})),
        report(),
        Decision.DROP,
    ),
    ("a namesake of the pod", current(status(TRAINING | {"podUID": "pod-0"})), report(), Decision.WAIT),
    ("the pod recorded by its UID", current(status(TRAINING | {"podUID": "pod-a"})), report(), Decision.WRITE),
    ("an attempt of another Job", current(status(TRAINING | {"jobUID": "forged"})), report(), Decision.WAIT),
    ("the pod's successor recorded", current(status(TRAINING, RETRIED)), report(), Decision.DROP),
    ("the evaluator recorded", current(status(TRAINING, EVALUATING)), report(), Decision.DROP),
    ("a successor not yet recorded", current(status(RETRIED | ENDED)), report(), Decision.WAIT),
    ("the pod ended", current(status(TRAINING | ENDED)), report(), Decision.DROP),
    ("its result recorded", current(status(TRAINING, conditions=(("Trained", "True"),))), report(), Decision.DROP),
    (
        "the evaluator after training",
        current(status(TRAINING, EVALUATING, conditions=(("Trained", "True"),), progress=shown("medqa-train-a", 60))),
        report(EVALUATOR, step=0),
        Decision.WRITE,
    ),
    (
        "a stage of a later version ended before",
        current(status({"stage": "Distill", "number": 1, "jobUID": "batch-0", "pod": "x"} | ENDED, TRAINING)),
        report(),
        Decision.WRITE,
    ),
    (
        "the evaluation recorded",
        current(status(EVALUATING, conditions=(("Trained", "True"), ("Evaluated", "True")))),
        report(EVALUATOR),
        Decision.DROP,
    ),
    ("success", current(status(TRAINING, conditions=(("Succeeded", "True"),))), report(), Decision.FINISH),
    ("failure", current(status(TRAINING, conditions=(("Succeeded", "False"),))), report(), Decision.FINISH),
    ("a lower step shown", current(status(TRAINING, progress=shown("medqa-train-a", 19))), report(), Decision.WRITE),
    ("the same step shown", current(status(TRAINING, progress=shown("medqa-train-a", 20))), report(), Decision.WRITE),
    ("a higher step shown", current(status(TRAINING, progress=shown("medqa-train-a", 21))), report(), Decision.DROP),
    (
        "a higher step of the pod before",
        current(status(RETRIED, TRAINING, progress=shown("medqa-train-c", 50))),
        report(),
        Decision.WRITE,
    ),
]


@pytest.mark.parametrize(("job", "told", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decision(job: CurrentJob | None, told: Report, expected: Decision) -> None:
    assert decide(job, told) is expected


def test_the_patch_tests_the_object_the_stage_and_the_step_before_it_writes() -> None:
    job = current(status(TRAINING, progress=shown("medqa-train-a", 19)))
    assert json_patch(job, report()) == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "test", "path": "/status/stage", "value": "Training"},
        {"op": "test", "path": "/status/progress/step", "value": 19},
        {"op": "add", "path": "/status/progress", "value": report().progress.to_api()},
    ]


def test_the_first_patch_tests_that_there_is_no_progress() -> None:
    assert {"op": "test", "path": "/status/progress", "value": None} in json_patch(current(status(TRAINING)), report())
