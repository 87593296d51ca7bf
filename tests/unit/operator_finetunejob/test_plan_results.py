"""How the operator's plan takes results, once and only of its own children."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetune_api.base import canonical_json, format_time
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, LookUp, Need, Settle
from plan_questions import (
    ADAPTER,
    EVALUATION,
    NOW,
    OLD_UID,
    READY,
    TRAINING,
    UID,
    after_training,
    child,
    decide,
    ended,
    job,
    message,
    settled,
    trained,
    verdict,
)


def test_a_training_result_is_written_before_the_evaluation_starts() -> None:
    step = decide(job(), child(), ended(message=trained()))
    assert isinstance(step, Settle)
    status = step.status
    assert (status.holds("Trained"), status.stage, step.revisit) == (True, "Evaluating", 0)
    assert status.training is not None
    assert status.adapter is not None
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss, status.progress.tokens_per_second) == (
        "200/200",
        "0.312",
        100,
    )
    assert status.lineage is not None
    assert (status.lineage.image, status.lineage.profile_sha256) == ("registry.example/trainer:1", "f" * 64)
    following = decide(job(status))
    assert isinstance(following, CreateJob)
    assert following.stage == "Evaluate"


def test_a_recorded_stage_is_never_created_again_though_its_job_and_pods_vanish() -> None:
    status = after_training()
    for children in ((), (child("eval", "job-2"),)):
        step = decide(job(status), *children)
        assert not isinstance(step, CreateJob) or step.stage == "Evaluate"


def test_without_an_evaluation_training_is_success() -> None:
    subject = job(evaluation=None)
    assert subject.spec is not None
    whole = {"version": 1, "stage": "Train", "jobUID": UID, "specSha256": subject.spec.sha256()}
    text = canonical_json(whole | {"finishedAt": format_time(NOW), "training": TRAINING, "adapter": ADAPTER})
    status = settled(subject, child(), ended(message=text))
    assert (verdict(status), status.stage) == (("True", "Completed"), "Succeeded")
    assert status.condition("Evaluated") is None


def test_an_evaluation_result_is_the_verdict_and_keeps_the_loss_in_progress() -> None:
    report = message("Evaluate", evaluation=EVALUATION)
    status = settled(
        job(after_training()), child("eval", "job-2"), ended("e1", message=report, stage="evaluate", of="job-2")
    )
    assert verdict(status) == ("True", "Completed")
    assert status.conditions[0].message == "accuracy 0.447 (n=1273)"
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss) == ("1273/1273", "0.312")
    reconciling = status.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.status == "False"
    assert status.completion_time == NOW


def test_a_failed_evaluation_keeps_the_adapter() -> None:
    failed = child("eval", "job-2", type="Failed", reason="PodFailurePolicy")
    words = {"reason": "EvaluationFailed", "message": "the test split is empty"}
    gone = ended("e1", 72, message("Evaluate", failure=words), stage="evaluate", of="job-2")
    status = settled(job(after_training()), failed, gone, facts=replace(READY, pods_listed=True))
    assert verdict(status) == ("False", "EvaluationFailed")
    assert status.holds("Trained")
    assert status.adapter is not None


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", trained(OLD_UID), message("Evaluate", evaluation=EVALUATION), message("Train", training=TRAINING)],
    ids=["none", "no result", "a namesake's", "another stage's", "half a result"],
)
def test_a_completed_job_without_a_result_of_its_own_runs_again_once(text: str) -> None:
    complete = child(type="Complete")
    pods = ended(message=text)
    assert decide(job(), complete, pods) == LookUp(Need.PODS)
    listed = replace(READY, pods_listed=True)
    first = decide(job(), complete, pods, facts=listed)
    assert isinstance(first, Settle)
    assert first.status.attempts[0].reason == "ResultLost"
    assert first.status.training is None
    assert isinstance(decide(job(first.status), complete, pods, facts=listed), DeleteJob)
    again = child(uid="job-2", type="Complete")
    second = ended("p2", message=text, of="job-2")
    status = settled(job(first.status), again, second, facts=listed)
    assert verdict(status) == ("False", "TrainerCrashed")


def test_a_pod_or_job_of_another_object_is_not_looked_at() -> None:
    for strangers in (
        (child(), ended(message=trained(), uid=OLD_UID)),
        (child(), ended(message=trained(), of="somebody-s-job")),
        (child(owner=OLD_UID), ended(message=trained())),
    ):
        step = decide(job(), *strangers, facts=replace(READY, rejection=""))
        assert not isinstance(step, Settle) or not step.status.holds("Trained")


@pytest.mark.parametrize("value", ["True", "False"])
def test_a_finished_job_never_starts_anything(value: str) -> None:
    done = {"type": "Succeeded", "status": value, "reason": "X", "lastTransitionTime": format_time(NOW)}
    subject = job({"observedGeneration": 1, "conditions": [done]})
    assert decide(subject, facts=READY) == Settle(subject.status)


def test_a_lost_child_of_a_recorded_attempt_is_made_again() -> None:
    status = settled(job(), child(age=0))
    step = decide(job(status))
    assert isinstance(step, CreateJob)
    anew = settled(job(status), child(uid="job-2", age=0))
    assert [(one.number, one.job_uid) for one in anew.attempts] == [(1, "job-2")]
