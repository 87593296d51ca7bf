"""How the operator's plan goes about a job that trains nothing."""

from __future__ import annotations

from typing import Any

from finetune_api.stages import EVALUATE
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.steps import CreateJob, Write
from plan_questions import EVALUATION, LISTED, child, decide, ended, job, message, pod, settled, verdict, words

MODEL = {"source": "pvc://models/base", "adapter": {"source": "pvc://models/june"}}


def alone(status: dict[str, Any] | FineTuneJobStatus | None = None) -> JobObject:
    return job(status, dataset=None, model=MODEL)


def conditions(status: FineTuneJobStatus) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions}


def test_its_evaluation_is_the_first_stage_and_waits_for_none() -> None:
    first = decide(alone())
    assert isinstance(first, Write)
    assert first.status.stage == "Pending"
    assert conditions(first.status) == {
        "Succeeded": "Unknown",
        "Finished": "False",
        "Evaluated": "Unknown",
        "Reconciling": "True",
    }
    following = decide(alone(first.status))
    assert isinstance(following, CreateJob)
    assert following.stage.name == "Evaluate"
    assert following.order.config(EVALUATE).spec.dataset is None
    assert [one.claim for one in following.order.config(EVALUATE).mounts] == ["models", "data"]


def test_it_is_evaluating_while_its_pod_runs() -> None:
    running = pod("e1", stage="evaluate", of="job-2", state={"running": {}})
    status = settled(alone(), child("eval", "job-2"), running)
    assert (status.stage, verdict(status)) == ("Evaluating", ("Unknown", "Evaluating"))
    assert [(one.stage, one.number) for one in status.attempts] == [("Evaluate", 1)]


def test_its_report_is_the_verdict_and_nothing_says_that_anything_was_trained() -> None:
    done = ended("e1", message=message("Evaluate", of=alone(), evaluation=EVALUATION), stage="evaluate", of="job-2")
    status = settled(alone(), child("eval", "job-2", type="Complete"), done)
    assert (verdict(status), words(status)) == (("True", "Completed"), "accuracy 0.447 (n=1273)")
    assert "Trained" not in conditions(status)
    assert conditions(status)["Reconciling"] == "False"
    assert [one.name for one in status.stages] == ["Evaluate"]
    assert (status.training, status.adapter, status.dataset) == (None, None, None)
    assert status.lineage
    assert status.lineage.seed is None
    assert status.progress
    assert (status.progress.summary, status.progress.loss) == ("1273/1273", None)


def test_an_adapter_of_another_base_fails_it_at_once() -> None:
    failed = child("eval", "job-2", type="Failed", reason="PodFailurePolicy")
    said = {"reason": "InvalidSpec", "message": "the adapter does not fit"}
    gone = ended("e1", 64, message("Evaluate", of=alone(), failure=said), stage="evaluate", of="job-2")
    status = settled(alone(), failed, gone, facts=LISTED)
    assert verdict(status) == ("False", "InvalidSpec")
    assert conditions(status)["Evaluated"] == "False"
    assert conditions(status)["Stalled"] == "True"
