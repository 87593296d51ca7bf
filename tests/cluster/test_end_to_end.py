"""The natural path of one ``kubectl apply``, from the YAML to the status, with real pods of the real images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cluster_setup.demo import SAMPLE
from cluster_setup.install import CLAIM, DEMO_NAMESPACE
from cluster_setup.jobs import ROWS, RUN_SECONDS, Jobs, restart_operator, tiny
from cluster_setup.load import ClaimFiles
from cluster_setup.target import Target
from embedded_cluster.process import wait_until
from finetune_api.base import sha256_of
from finetune_api.job import FineTuneJob
from finetune_api.reasons import Reason


def succeeded(job: FineTuneJob) -> bool:
    return job.status.stage == "Succeeded" and job.status.holds("Succeeded")


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
    assert status.evaluation.base is not None
    assert float(str(status.training.final_loss)) < 0.8 * float(str(status.training.first_loss))
    assert float(str(status.evaluation.tuned.perplexity)) < float(str(status.evaluation.base.perplexity))
    assert status.evaluation.tuned.accuracy_interval95 is not None
    assert status.memory is not None
    assert status.memory.host is not None
    assert status.lineage is not None
    assert status.lineage.spec_sha256 == sample_job.spec.sha256()


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
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    assert sample_job.status.adapter is not None
    assert sample_job.status.evaluation is not None
    files.copy_out(sample_job.status.adapter.uri.removeprefix(f"pvc://{CLAIM}/"), tmp_path / "adapter")
    report = json.loads(files.read(sample_job.status.evaluation.report_uri.removeprefix(f"pvc://{CLAIM}/")))
    sample = report["samples"][0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(
        target.state.cache / "models/smollm2",
        dtype=torch.float32,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
    )
    model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": sample["prompt"]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, max_new_tokens=16, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    answer = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer.strip() == sample["tuned"]["answer"]


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


def test_a_claim_that_is_not_there_is_named(jobs: Jobs) -> None:
    jobs.apply("no-claim", tiny("no-claim", model={"source": "pvc://missing/tiny"}))
    job = jobs.wait_for_end("no-claim", RUN_SECONDS)
    assert job.status.failure is not None
    assert job.status.failure.reason == Reason.VOLUME_NOT_FOUND
    assert "missing" in job.status.failure.message


def test_a_job_that_no_node_can_take_waits_and_shows_the_schedulers_words(jobs: Jobs) -> None:
    jobs.apply("no-gpu", tiny("no-gpu", runtime={"gpusPerNode": 1}))

    def says_why(job: FineTuneJob) -> bool:
        condition = job.status.condition("Succeeded")
        return condition is not None and condition.reason == Reason.UNSCHEDULABLE

    job = jobs.wait("no-gpu", says_why, RUN_SECONDS, "Unschedulable")
    condition = job.status.condition("Succeeded")
    assert condition is not None
    assert condition.status == "Unknown"
    assert "Insufficient nvidia.com/gpu" in condition.message
    jobs.delete("no-gpu")


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


def has_progress(job: FineTuneJob) -> bool:
    return job.status.progress is not None and job.status.progress.step > 0


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
