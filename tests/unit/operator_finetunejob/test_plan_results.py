"""How the operator's plan takes results, once and only of its own children."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_api.base import format_time
from finetune_api.results import ModelStatus
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, LookUp, Need, Settle, Write
from plan_questions import (
    ADAPTER,
    EVALUATION,
    LISTED,
    MODEL,
    NOW,
    OLD_UID,
    READY,
    TRAINING,
    after_training,
    ago,
    child,
    decide,
    ended,
    full_job,
    job,
    message,
    pod,
    settled,
    trained,
    trained_whole,
    verdict,
    words,
)

RUNS = {"running": {"startedAt": ago(60)}}


def test_a_training_result_is_written_before_the_evaluation_starts() -> None:
    step = decide(job(), child(type="Complete"), ended(message=trained()))
    assert isinstance(step, Write)
    status = step.status
    assert (status.holds("Trained"), status.stage) == (True, "Evaluating")
    assert words(status) == "waiting for a pod of Job medqa-eval to run"
    assert status.training is not None
    assert status.adapter is not None
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss, status.progress.tokens_per_second) == (
        "200/200",
        "0.312",
        100,
    )
    following = decide(job(status))
    assert isinstance(following, CreateJob)
    assert following.stage.name == "Evaluate"


def test_what_ran_a_stage_is_kept_with_the_stage_and_what_it_was_made_from_with_the_job() -> None:
    told = trained(
        lineage={"modelRevision": "main", "datasetRevision": "", "datasetSha256": "c" * 64},
        stageLineage={"image": "by-its-own-word", "trainerVersion": "1.2", "device": "H100"},
    )
    status = settled(job(), child(type="Complete"), ended(message=told))
    kept = status.stage_status("Train")
    assert kept.lineage is not None
    assert kept.lineage.to_api() == {
        "image": "registry.example/trainer:1",
        "profileSha256": "f" * 64,
        "trainerVersion": "1.2",
        "device": "H100",
    }
    assert status.lineage is not None
    spec = job().spec
    assert spec is not None
    assert status.lineage.to_api() == {
        "modelRevision": "main",
        "datasetSha256": "c" * 64,
        "seed": 700,
        "trainingSha256": spec.training_sha256,
        "evaluationSha256": spec.evaluation_sha256,
    }


def test_a_stage_tells_time_that_it_ran_apart_from_time_that_it_waited() -> None:
    late = job({"startTime": ago(3600)})
    status = settled(late, child(type="Complete"), ended(message=trained(), age=91))
    kept = status.stage_status("Train")
    assert (status.start_time, kept.start_time) == (NOW - timedelta(hours=1), NOW - timedelta(seconds=90))
    assert (kept.active_seconds, kept.completion_time, kept.attempts) == (90, NOW, 1)


def test_a_reused_result_says_so_and_from_where() -> None:
    status = settled(job(), child(type="Complete"), ended(message=trained(reused=True)))
    found = status.condition("Trained")
    assert found is not None
    assert (found.status, found.reason) == ("True", "Reused")
    assert found.message.startswith("the adapter at pvc://models/run/adapter is that of an identical job, nothing was")


def test_advice_of_both_stages_is_kept_each_reason_once() -> None:
    def advice(*reasons: str) -> list[dict[str, str]]:
        return [{"reason": reason, "message": f"about {reason}"} for reason in reasons]

    first = settled(job(), child(), ended(message=trained(advice=advice("FewRows", "ShortWarmUp"))))
    report = message("Evaluate", evaluation=EVALUATION, advice=advice("FewRows", "SharedRows"))
    status = settled(job(first), child("eval", "job-2"), ended("e1", message=report, stage="evaluate", of="job-2"))
    assert [one.reason for one in status.advice] == ["FewRows", "ShortWarmUp", "SharedRows"]


def test_a_recorded_stage_is_never_created_again_though_its_job_and_pods_vanish() -> None:
    status = after_training()
    for children in ((), (child("eval", "job-2"),)):
        step = decide(job(status), *children)
        assert not isinstance(step, CreateJob) or step.stage.name == "Evaluate"


def test_without_an_evaluation_training_is_success() -> None:
    subject = job(evaluation=None)
    text = message("Train", of=subject, training=TRAINING, adapter=ADAPTER)
    status = settled(subject, child(type="Complete"), ended(message=text))
    assert (verdict(status), status.stage) == (("True", "Completed"), "Succeeded")
    assert status.condition("Evaluated") is None
    assert words(status) == "adapter at pvc://models/run/adapter"


def test_a_full_job_s_result_is_a_model_which_success_names() -> None:
    subject = full_job(evaluation=None)
    status = settled(subject, child(type="Complete"), ended(message=trained_whole(subject)))
    assert (verdict(status), status.stage) == (("True", "Completed"), "Succeeded")
    assert (status.model, status.adapter) == (ModelStatus.model_validate(MODEL), None)
    assert words(status) == "model at pvc://models/run/model"


def test_a_full_job_that_is_evaluated_keeps_its_model_and_goes_on_to_the_evaluation() -> None:
    subject = full_job()
    status = settled(subject, child(type="Complete"), ended(message=trained_whole(subject)))
    assert (status.holds("Trained"), status.stage) == (True, "Evaluating")
    following = decide(full_job(status))
    assert isinstance(following, CreateJob)
    assert following.stage.name == "Evaluate"
    report = message("Evaluate", of=subject, evaluation=EVALUATION)
    pods = ended("e1", message=report, stage="evaluate", of="job-2")
    done = settled(full_job(status), child("eval", "job-2", type="Complete"), pods)
    assert (verdict(done), words(done)) == (("True", "Completed"), "accuracy 0.447 (n=1273)")
    assert done.model == status.model is not None


def test_a_merged_model_is_kept_beside_its_adapter_which_success_names() -> None:
    subject = job(output={"destination": "pvc://models/run", "formats": ["Adapter", "Merged16Bit"]}, evaluation=None)
    text = message("Train", of=subject, training=TRAINING, adapter=ADAPTER, model=MODEL)
    status = settled(subject, child(type="Complete"), ended(message=text))
    assert (status.model, status.adapter is None) == (ModelStatus.model_validate(MODEL), False)
    assert words(status) == "adapter at pvc://models/run/adapter"


def test_a_reused_model_of_a_full_job_says_from_where() -> None:
    subject = full_job()
    status = settled(subject, child(type="Complete"), ended(message=trained_whole(subject, reused=True)))
    found = status.condition("Trained")
    assert found is not None
    assert found.message.startswith("the model at pvc://models/run/model is that of an identical job, nothing was")


def test_a_full_job_has_no_lora_and_needs_none() -> None:
    subject = full_job()
    assert subject.spec is not None
    assert subject.spec.resolved.lora is None
    step = decide(subject)
    assert isinstance(step, Write | CreateJob)


def test_an_evaluation_result_is_the_verdict_and_keeps_the_loss_and_promises_nothing_more() -> None:
    report = message("Evaluate", evaluation=EVALUATION)
    pushed = {"stage": "Evaluate", "pod": "e1", "remainingSeconds": 3, "remaining": "3s"}
    before = FineTuneJobStatus.model_validate(after_training().to_api() | {"progress": pushed})
    status = settled(job(before), child("eval", "job-2"), ended("e1", message=report, stage="evaluate", of="job-2"))
    assert verdict(status) == ("True", "Completed")
    assert words(status) == "accuracy 0.447 (n=1273)"
    assert status.progress is not None
    assert (status.progress.summary, status.progress.loss) == ("1273/1273", "0.312")
    assert (status.progress.remaining, status.progress.remaining_seconds) == (None, None)
    values = {one.type: one.status for one in status.conditions}
    assert (values["Reconciling"], values["Finished"]) == ("False", "True")
    assert status.completion_time == NOW
    assert '""' not in status.model_dump_json(by_alias=True, exclude_none=True)


def test_a_failed_evaluation_keeps_the_adapter() -> None:
    failed = child("eval", "job-2", type="Failed", reason="PodFailurePolicy")
    said = {"reason": "EvaluationFailed", "message": "the test split is empty"}
    gone = ended("e1", 72, message("Evaluate", failure=said), stage="evaluate", of="job-2")
    status = settled(job(after_training()), failed, gone, facts=LISTED)
    assert verdict(status) == ("False", "EvaluationFailed")
    assert status.holds("Trained")
    assert status.holds("Finished")
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
    first = decide(job(), complete, pods, facts=LISTED)
    assert isinstance(first, Write)
    assert first.status.attempts[0].reason == "ResultLost"
    assert first.status.training is None
    assert isinstance(decide(job(first.status), complete, pods, facts=LISTED), DeleteJob)
    again = child(uid="job-2", type="Complete")
    second = ended("p2", message=text, of="job-2", age=30)
    status = settled(job(first.status), again, pods, second, facts=LISTED)
    assert verdict(status) == ("False", "TrainerCrashed")


def test_a_lost_result_counts_for_its_own_stage_alone_and_no_other_ending_counts_as_one() -> None:
    lost = settled(job(), child(type="Complete"), ended("p1"), facts=LISTED)
    crashed = settled(job(lost), child(uid="job-2"), ended("p2", 1, of="job-2", age=40))
    done = settled(job(crashed), child(uid="job-2"), ended("p3", message=trained(), of="job-2", age=30))
    assert [one.reason for one in done.attempts] == ["ResultLost", "TrainerCrashed", "Completed"]
    complete = child("eval", "job-3", type="Complete")
    silent = ended("e1", stage="evaluate", of="job-3", age=20)
    step = decide(job(done), complete, silent, facts=LISTED)
    assert isinstance(step, Write)
    assert "job medqa-eval is run again" in words(step.status).lower()


def test_a_pod_or_job_of_another_object_is_not_looked_at() -> None:
    for strangers in (
        (child(), ended(message=trained(), uid=OLD_UID)),
        (child(), ended(message=trained(), of="somebody-s-job")),
        (child(owner=OLD_UID), ended(message=trained())),
    ):
        step = decide(job(), *strangers, facts=replace(READY, warnings=()))
        assert not isinstance(step, Settle | Write) or not step.status.holds("Trained")


@pytest.mark.parametrize("value", ["True", "False"])
def test_a_finished_job_never_starts_anything(value: str) -> None:
    done = {"type": "Succeeded", "status": value, "reason": "X", "lastTransitionTime": format_time(NOW)}
    subject = job({"observedGeneration": 1, "conditions": [done]})
    assert decide(subject, facts=READY) == Settle(subject.status)


def test_a_lost_child_of_a_running_job_is_made_again_and_its_pod_is_a_new_attempt() -> None:
    status = settled(job(), child(), pod())
    step = decide(job(status))
    assert isinstance(step, CreateJob)
    anew = settled(job(status), child(uid="job-2"), pod("p2", of="job-2", age=1))
    assert [(one.number, one.job_uid, one.reason) for one in anew.attempts] == [
        (1, "job-1", "Interrupted"),
        (2, "job-2", None),
    ]


def test_a_result_is_read_from_the_trainer_though_a_container_beside_it_runs_on() -> None:
    step = decide(job(), child(), ended(message=trained(), sidecar=RUNS))
    assert isinstance(step, Write)
    assert step.status.holds("Trained")
    found = step.status.condition("Trained")
    assert found is not None
    assert "container agent of pod p1 runs on beside it" in found.message
    assert step.status.attempts[0].reason == "Completed"


def test_a_recorded_stage_s_job_that_does_not_end_makes_way_after_a_minute() -> None:
    recorded, beside = after_training(), ended(message=trained(), sidecar=RUNS)
    early = decide(job(recorded), child(), beside, child("eval", "job-2", age=-18), now=NOW + timedelta(seconds=20))
    assert isinstance(early, Settle)
    assert early.revisit is not None
    assert early.revisit <= 40
    late = decide(job(recorded), child(), beside, now=NOW + timedelta(seconds=60))
    assert isinstance(late, DeleteJob)
    assert late.uid == "job-1"
    assert not isinstance(decide(job(recorded), child(type="Complete"), now=NOW + timedelta(seconds=60)), DeleteJob)


def test_a_crash_in_a_pod_that_a_sidecar_holds_open_is_told_and_then_run_again() -> None:
    crashed = ended("p1", 1, "Traceback", sidecar=RUNS)
    step = decide(job(), child(), crashed)
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", "Pending"), 60)
    said = "the trainer of pod p1 has ended (exit code 1), but container agent beside it has not"
    assert (words(step.status), step.status.stages[0].crashes) == (said, 1)
    late = decide(job(step.status), child(), crashed, now=NOW + timedelta(seconds=60))
    assert isinstance(late, DeleteJob)
    again = decide(job(step.status))
    assert isinstance(again, CreateJob)
    assert again.crashes == 1


def test_a_container_that_can_t_start_holds_a_pod_open_as_one_that_runs_on_does() -> None:
    stuck = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    done = ended(message=trained(), sidecar=stuck, phase="Pending")
    assert settled(job(), child(), done).holds("Trained")
    crashed = ended("p1", 1, "Traceback", sidecar=stuck, phase="Pending")
    first = settled(job(), child(), crashed)
    said = "the trainer of pod p1 has ended (exit code 1), but container agent beside it has not"
    assert words(first) == said
    step = decide(job(first), child(), crashed, now=NOW + timedelta(seconds=60))
    assert isinstance(step, DeleteJob)


def test_a_mistake_in_a_pod_that_a_sidecar_holds_open_fails_the_job_at_once() -> None:
    assert verdict(settled(job(), child(), ended("p1", 67, sidecar=RUNS))) == ("False", "DatasetInvalid")


def test_a_sidecar_that_was_killed_costs_no_result_and_its_exit_code_is_not_the_trainer_s() -> None:
    killed = {"terminated": {"exitCode": 143, "reason": "Error"}}
    status = settled(job(), child(), ended(message=trained(), sidecar=killed, phase="Failed"))
    assert (status.holds("Trained"), status.attempts[0].reason) == (True, "Completed")


def test_pods_that_a_sidecar_holds_open_come_to_an_end_as_others_do() -> None:
    long_ago = NOW - timedelta(seconds=90)
    limited = {"scheduling": {"backoffLimit": 0}}
    crashed = ended("p1", 1, "Traceback", sidecar=RUNS, finished=long_ago)
    over = settled(job(**limited), child(), crashed)
    assert verdict(over) == ("False", "TrainerCrashed")
    assert "more crashes than scheduling.backoffLimit 0 allows" in words(over)
    silent = [ended(f"p{number}", of=f"job-{number}", sidecar=RUNS, finished=long_ago) for number in (1, 2)]
    first = settled(job(), child(), silent[0])
    assert first.attempts[0].reason == "ResultLost"
    lost = settled(job(first), child(uid="job-2"), *silent)
    assert (verdict(lost), lost.attempts[1].reason) == (("False", "TrainerCrashed"), "ResultLost")
