"""The natural path of one ``kubectl apply``, from the YAML to the status, with real pods of the real images."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from cluster_setup.demo import SAMPLE
from cluster_setup.install import CLAIM, DEMO_NAMESPACE
from cluster_setup.jobs import ROWS, RUN_SECONDS, Jobs, has_progress, restart_operator, tiny
from cluster_setup.load import ClaimFiles
from cluster_setup.target import Target
from cluster_setup.volumes import empty_volume
from embedded_cluster.process import wait_until
from finetune_api.base import sha256_of
from finetune_api.defaults import resolve
from finetune_api.job import FineTuneJob
from finetune_api.reasons import Reason
from finetune_api.results import MetricValue
from finetune_api.status import FineTuneJobStatus
from plain_peft import PlainPeft


def succeeded(job: FineTuneJob) -> bool:
    return job.status.stage == "Succeeded" and job.status.holds("Succeeded") and job.status.holds("Finished")


def values(status: FineTuneJobStatus, metric: str) -> tuple[MetricValue, MetricValue]:
    """A metric of base and tuned."""
    assert status.evaluation is not None
    entry = status.evaluation.metric(metric)
    assert entry is not None
    assert entry.base is not None
    assert entry.tuned is not None
    return entry.base, entry.tuned


def reason_of(job: FineTuneJob) -> str:
    condition = job.status.condition("Succeeded")
    return condition.reason if condition else ""


def message_of(job: FineTuneJob) -> str:
    condition = job.status.condition("Succeeded")
    return condition.message if condition else ""


@pytest.fixture(scope="module")
def sample_job(jobs: Jobs, target: Target) -> FineTuneJob:
    """The demo's own sample, run to its end: SmolLM2-135M-Instruct."""
    document = yaml.safe_load(SAMPLE.read_text())
    target.kubectl("apply", "-f", str(SAMPLE))
    return jobs.wait_for_end(document["metadata"]["name"], seconds=900)


def test_the_sample_ends_with_a_lower_loss_and_scores_for_base_and_tuned(sample_job: FineTuneJob) -> None:
    status = sample_job.status
    assert succeeded(sample_job), status.failure
    assert status.training is not None
    assert status.evaluation is not None
    assert float(str(status.training.final_loss)) < 0.8 * float(str(status.training.first_loss))
    base, tuned = values(status, "Perplexity")
    assert float(tuned.value) < float(base.value)
    assert values(status, "Accuracy")[1].interval95 is not None
    assert status.memory is not None
    assert status.memory.host is not None
    assert status.lineage is not None
    assert status.lineage.training_sha256 == resolve(sample_job.spec).training_sha256()
    assert status.lineage.evaluation_sha256 == resolve(sample_job.spec).evaluation_sha256()


def test_each_stage_says_what_ran_it_and_how_long(sample_job: FineTuneJob, target: Target) -> None:
    image = target.images()["finetune-trainer"]
    for name in ("Train", "Evaluate"):
        stage = sample_job.status.stage_status(name)
        assert (stage.attempts, stage.crashes) == (1, 0)
        assert stage.active_seconds > 0
        assert stage.lineage is not None
        assert str(stage.lineage.image).partition("@")[2] == image.partition("@")[2]
        assert stage.lineage.profile_sha256


def test_base_and_tuned_answer_the_same_prompt_differently(sample_job: FineTuneJob) -> None:
    assert sample_job.status.evaluation is not None
    assert any(sample.base != sample.tuned for sample in sample_job.status.evaluation.samples)


def test_the_status_names_an_adapter_whose_manifest_has_the_digest_it_says(
    sample_job: FineTuneJob, files: ClaimFiles
) -> None:
    adapter = sample_job.status.adapter
    assert adapter is not None
    folder = adapter.uri.removeprefix(f"pvc://{CLAIM}/")
    digest = files.execute("sha256sum", f"/claim/{folder}/manifest.json").split()[0]
    assert digest == adapter.sha256


def test_the_adapter_loads_in_plain_peft_and_answers_as_the_report_says(
    sample_job: FineTuneJob, files: ClaimFiles, target: Target, tmp_path: Path
) -> None:
    assert sample_job.status.adapter is not None
    assert sample_job.status.evaluation is not None
    files.copy_out(sample_job.status.adapter.uri.removeprefix(f"pvc://{CLAIM}/"), tmp_path / "adapter")
    report = json.loads(files.read(str(sample_job.status.evaluation.report_uri).removeprefix(f"pvc://{CLAIM}/")))
    sample = report["samples"][0]
    plain = PlainPeft(target.state.cache / "models/smollm2", tmp_path / "adapter")
    assert plain.answer(sample["prompt"], 16) == sample["tuned"]["answer"]


def test_the_list_shows_what_came_of_the_sample(sample_job: FineTuneJob, jobs: Jobs) -> None:
    row = jobs.kubectl("-n", DEMO_NAMESPACE, "get", "ftj", sample_job.metadata.name, "-o", "wide")
    assert "Succeeded" in row
    assert "→" in row
    assert f"pvc://{CLAIM}/runs/" in row


@pytest.fixture(scope="module")
def pair(jobs: Jobs) -> dict[str, FineTuneJob]:
    """Two jobs at once, with the operator killed while both train."""
    for name in ("left", "right"):
        jobs.apply(name, tiny(name, training={"batchSize": 4, "maxSteps": 6, "loggingSteps": 1, "seed": 1}))
    for name in ("left", "right"):
        jobs.wait(name, lambda job: job.status.stage == "Training", RUN_SECONDS, "training")
    restart_operator(jobs.kubectl)
    return {name: jobs.wait_for_end(name, RUN_SECONDS) for name in ("left", "right")}


def test_two_jobs_at_once_both_succeed_though_the_operator_is_restarted_in_the_middle(
    pair: dict[str, FineTuneJob],
) -> None:
    assert all(succeeded(job) for job in pair.values()), {name: job.status.failure for name, job in pair.items()}


def test_a_restarted_operator_starts_nothing_twice(pair: dict[str, FineTuneJob], jobs: Jobs) -> None:
    for name, job in pair.items():
        assert [attempt.stage for attempt in job.status.attempts] == ["Train", "Evaluate"]
        assert len(jobs.children(name, "jobs")) == 2
        assert len(jobs.children(name, "pods")) == 2


def test_equal_specs_give_equal_losses(pair: dict[str, FineTuneJob]) -> None:
    losses = [job.status.training.final_loss for job in pair.values() if job.status.training]
    assert len(losses) == 2
    assert losses[0] == losses[1]


def test_progress_was_pushed_while_training_and_ends_at_the_last_step(pair: dict[str, FineTuneJob]) -> None:
    for job in pair.values():
        assert job.status.progress is not None
        assert job.status.progress.percent == 100


def test_a_finished_job_whose_child_is_deleted_never_runs_again(pair: dict[str, FineTuneJob], jobs: Jobs) -> None:
    jobs.kubectl("-n", DEMO_NAMESPACE, "delete", "job", "left-train", "--wait=true")
    restart_operator(jobs.kubectl)
    # A later job that has run its course shows that the operator has been through all that came before.
    jobs.apply("after", tiny("after", model={"source": f"pvc://{CLAIM}/no-such-model"}))
    jobs.wait_for_end("after", RUN_SECONDS)
    assert {child["metadata"]["name"] for child in jobs.children("left", "jobs")} == {"left-eval"}
    assert sha256_of(jobs.get("left").status.to_api()) == sha256_of(pair["left"].status.to_api())


def test_a_pod_killed_for_memory_fails_at_once_and_says_what_to_change(jobs: Jobs) -> None:
    limits = {"requests": {"cpu": "200m", "memory": "200Mi"}, "limits": {"memory": "200Mi"}}
    jobs.apply("starved", tiny("starved", runtime={"gpusPerNode": 0, "resources": limits}))
    job = jobs.wait_for_end("starved", RUN_SECONDS)
    assert job.status.failure is not None
    assert job.status.failure.reason == Reason.OUT_OF_MEMORY
    assert job.status.failure.exit_code == 137
    assert "200Mi" in job.status.failure.message
    assert "resources.limits" in job.status.failure.message
    assert len(job.status.attempts) == 1


def test_a_bad_row_is_named_with_its_column_and_not_retried(jobs: Jobs, files: ClaimFiles, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (ROWS / "train.jsonl").read_text().splitlines()[:8]]
    rows[4]["options"] = {}
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files.copy_in(tmp_path, "bad_rows")
    jobs.apply("bad-row", tiny("bad-row", dataset={"source": f"pvc://{CLAIM}/bad_rows"}))
    job = jobs.wait_for_end("bad-row", RUN_SECONDS)
    assert job.status.failure is not None
    assert job.status.failure.reason == Reason.DATASET_INVALID
    assert "row 5" in job.status.failure.message
    assert "options" in job.status.failure.message
    assert len(job.status.attempts) == 1
    assert job.status.holds("Stalled")


def test_a_wrong_model_path_is_named(jobs: Jobs) -> None:
    jobs.apply("no-model", tiny("no-model", model={"source": f"pvc://{CLAIM}/no-such-model"}))
    job = jobs.wait_for_end("no-model", RUN_SECONDS)
    assert job.status.failure is not None
    assert job.status.failure.reason == Reason.MODEL_NOT_FOUND
    assert f"pvc://{CLAIM}/no-such-model" in job.status.failure.message


def test_a_claim_that_comes_later_starts_the_job_that_has_waited_for_it(jobs: Jobs) -> None:
    jobs.apply("late-claim", tiny("late-claim", dataset={"source": "pvc://late/rows"}))
    waiting = jobs.wait(
        "late-claim", lambda job: reason_of(job) == Reason.VOLUME_NOT_FOUND, RUN_SECONDS, "the missing claim's name"
    )
    assert "late" in message_of(waiting)
    assert not waiting.status.finished
    jobs.kubectl.apply([*empty_volume("late", DEMO_NAMESPACE)])
    job = jobs.wait_for_end("late-claim", RUN_SECONDS)
    assert job.status.failure is not None
    assert job.status.failure.reason == Reason.DATASET_NOT_FOUND  # the claim is there, and empty


def test_a_volume_that_cannot_be_mounted_is_told_in_the_kubelets_words(jobs: Jobs) -> None:
    jobs.kubectl.apply([*empty_volume("unmountable", DEMO_NAMESPACE, kind="BlockDevice")])
    jobs.apply("no-mount", tiny("no-mount", dataset={"source": "pvc://unmountable/rows"}))
    job = jobs.wait("no-mount", lambda job: reason_of(job) == Reason.FAILED_MOUNT, RUN_SECONDS, "FailedMount")
    assert "hostPath type check failed" in message_of(job)
    jobs.delete("no-mount")


def test_a_job_that_no_node_can_take_waits_and_shows_the_schedulers_words(jobs: Jobs) -> None:
    jobs.apply("no-gpu", tiny("no-gpu", runtime={"gpusPerNode": 1}))
    job = jobs.wait("no-gpu", lambda job: reason_of(job) == Reason.UNSCHEDULABLE, RUN_SECONDS, "Unschedulable")
    assert not job.status.finished
    assert "Insufficient nvidia.com/gpu" in message_of(job)
    jobs.delete("no-gpu")


def test_a_child_that_somebody_suspends_is_told_and_goes_on_when_it_is_resumed(jobs: Jobs) -> None:
    jobs.apply("held", tiny("held", steps=200))
    jobs.wait("held", has_progress, RUN_SECONDS, "progress")
    suspend(jobs, "held-train", True)
    held = jobs.wait("held", lambda job: reason_of(job) == Reason.SUSPENDED, RUN_SECONDS, "Suspended")
    reached = held.status.progress
    assert reached is not None
    assert reached.remaining is None
    suspend(jobs, "held-train", False)
    resumed = jobs.wait(
        "held", lambda job: job.status.progress.pod != reached.pod, RUN_SECONDS, "progress of the resumed pod"
    )
    assert resumed.status.progress is not None
    assert resumed.status.progress.step >= reached.step  # from the checkpoint that the first pod left
    assert resumed.status.attempts[0].reason == Reason.INTERRUPTED
    jobs.delete("held")


def suspend(jobs: Jobs, child: str, value: bool) -> None:
    patch = json.dumps({"spec": {"suspend": value}})
    jobs.kubectl("-n", DEMO_NAMESPACE, "patch", "job", child, "--type=merge", "-p", patch)


def test_an_adapter_of_an_earlier_job_is_evaluated_alone_to_the_same_scores(
    pair: dict[str, FineTuneJob], jobs: Jobs
) -> None:
    theirs = pair["left"].status
    assert theirs.adapter is not None
    assert theirs.evaluation is not None
    spec = tiny("alone", model={"adapter": {"source": theirs.adapter.uri}})
    jobs.apply("alone", {name: section for name, section in spec.items() if name not in ("dataset", "training")})
    ours = jobs.wait_for_end("alone", RUN_SECONDS)
    assert succeeded(ours), ours.status.failure
    assert ours.status.evaluation is not None
    assert ours.status.evaluation.metrics == theirs.evaluation.metrics
    assert [attempt.stage for attempt in ours.status.attempts] == ["Evaluate"]
    assert ours.status.condition("Trained") is None


def test_a_second_job_of_one_spec_takes_the_firsts_artefacts_and_changes_none(jobs: Jobs, files: ClaimFiles) -> None:
    # A destination of this run's own: what an earlier one left there is of another image, and stays as it is.
    spec = tiny(f"shared-{uuid4().hex[:8]}", training={"batchSize": 4, "maxSteps": 3, "loggingSteps": 1, "seed": 11})
    for name in ("shared-a", "shared-b"):
        jobs.apply(name, spec)
    first, second = (jobs.wait_for_end(name, RUN_SECONDS) for name in ("shared-a", "shared-b"))
    assert succeeded(first), first.status.failure
    assert succeeded(second), second.status.failure
    trained = [job.status.condition("Trained") for job in (first, second)]
    assert sorted(condition.reason for condition in trained if condition) == ["Completed", "Reused"]
    assert first.status.adapter == second.status.adapter
    assert first.status.adapter is not None
    folder = first.status.adapter.uri.removeprefix(f"pvc://{CLAIM}/")
    digest = files.execute("sha256sum", f"/claim/{folder}/manifest.json").split()[0]
    assert digest == first.status.adapter.sha256


def test_a_job_recreated_under_its_name_while_the_first_still_trains_gets_its_own_result(
    jobs: Jobs, files: ClaimFiles
) -> None:
    jobs.apply("twin", tiny("twin", steps=200))
    first = jobs.wait("twin", has_progress, RUN_SECONDS, "progress")
    jobs.delete("twin")
    wait_until(lambda: not jobs.children("twin"), 120, "the children's end")
    jobs.apply("twin", tiny("twin", steps=2))
    second = jobs.wait_for_end("twin", RUN_SECONDS)
    assert succeeded(second), second.status.failure
    assert second.metadata.uid != first.metadata.uid
    assert second.status.progress is not None
    assert second.status.training is not None
    assert second.status.training.steps == 2
    assert second.status.progress.step <= 96  # rows scored by both models; nothing of the first's 200 steps


def test_delete_removes_the_children_and_keeps_the_artefacts(
    pair: dict[str, FineTuneJob], jobs: Jobs, files: ClaimFiles
) -> None:
    jobs.apply("gone", tiny("gone", steps=200))
    jobs.wait("gone", has_progress, RUN_SECONDS, "progress")
    for name in ("gone", "right"):
        jobs.delete(name)
        wait_until(lambda name=name: not jobs.children(name), 120, f"the end of the children of {name}")
    adapter = pair["right"].status.adapter
    assert adapter is not None
    assert "adapter_model.safetensors" in files.listing(adapter.uri.removeprefix(f"pvc://{CLAIM}/"))
