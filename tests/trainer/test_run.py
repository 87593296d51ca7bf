"""One run from rows to report: what it learns, saves, pushes and says."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import JobReference
from finetune_api.progress import progress_of
from finetune_api.reasons import Reason
from finetune_api.run_folder import ROW_CACHE
from finetune_api.termination import LIMIT_BYTES, decode, encode
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import MANIFEST, read_manifest, sha256_of_file
from finetune_trainer.stage.progress import ProgressPusher
from plain_peft import PlainPeft


def test_the_loss_falls_and_the_result_says_how(run: Any) -> None:
    training = run.training.training
    assert training.steps == 40
    assert float(training.final_loss) < 0.5 * float(training.first_loss)
    assert training.examples_seen == 160
    assert training.trained_tokens > 160 * 40
    assert training.dropped_examples == 0
    assert (training.micro_batch_size, training.dtype) == (4, "float32")
    assert (training.gradient_checkpointing, training.optimizer) == ("Disabled", "AdamW")
    # Rank 8 on the seven projections of each of two layers (hidden 64, keys and values 32, intermediate 128).
    per_layer = 2 * 8 * (64 + 64) + 2 * 8 * (64 + 32) + 3 * 8 * (64 + 128)
    assert training.trainable_parameters == 2 * per_layer
    base = 49152 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64
    assert training.total_parameters == base + 2 * per_layer


def test_tuned_beats_base_on_rows_that_neither_has_seen(run: Any) -> None:
    evaluation = run.evaluation.evaluation
    assert evaluation.examples == 12
    perplexity, accuracy = evaluation.metric("Perplexity"), evaluation.metric("Accuracy")
    assert float(perplexity.tuned.value) < float(perplexity.base.value)
    assert evaluation.summary == f"{float(accuracy.base.value):.2f}→{float(accuracy.tuned.value):.2f}"
    assert float(accuracy.tuned.interval95.low) <= float(accuracy.tuned.value)
    assert len(evaluation.samples) == 3
    assert all(sample.tuned.text != sample.base.text for sample in evaluation.samples)
    assert all(sample.tuned.text.startswith("The correct answer is") for sample in evaluation.samples)
    assert evaluation.samples[0].base.names != "Option"


def test_both_results_fit_a_termination_message_and_stand_beside_the_artefacts(run: Any) -> None:
    places = ((run.training, run.folder), (run.evaluation, run.evaluation_folder))
    for result, folder in places:
        message = encode(result)
        assert len(message.encode()) <= LIMIT_BYTES
        decoded = decode(message)
        assert decoded
        assert decoded.job_uid == "uid-1"
        assert decode((folder / "result.json").read_text()) == decode(result.model_dump_json(by_alias=True))


def test_the_report_holds_every_row_of_both_models(run: Any) -> None:
    report = json.loads((run.evaluation_folder / "report.json").read_text())
    assert len(report["rows"]) == 12
    right = sum(row["tuned"]["Accuracy"]["option"] == row["right"] for row in report["rows"])
    accuracy = run.evaluation.evaluation.metric("Accuracy").tuned.value
    assert float(accuracy) == pytest.approx(right / 12, abs=1e-5)
    assert sum(report["chosen"]["base"]["Accuracy"].values()) == 12
    digest = run.config.evaluation_sha256[:12]
    assert run.evaluation.evaluation.report_uri == f"{run.run_folder.uri}/evaluations/{digest}/report.json"


def test_the_saved_folder_is_whole_and_named_by_its_manifest(run: Any) -> None:
    adapter = run.training.adapter
    manifest = read_manifest(run.adapter)
    assert manifest
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(
        manifest.files
    )
    assert adapter.files == len(manifest.files)
    assert adapter.sha256 == sha256_of_file(run.adapter / MANIFEST)
    assert adapter.uri == f"pvc://work/out/{run.config.training_sha256[:12]}/adapter"
    assert (run.folder.parent / "latest").resolve() == run.folder
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "adapter",
        "dataset.json",
        "evaluations",
        "metrics.jsonl",
        "result.json",
        "run.lock.json",
        "spec.json",
    ]


def test_the_spec_lies_beside_the_result_without_what_makes_no_difference_to_it(run: Any) -> None:
    asked = json.loads((run.folder / "spec.json").read_text())
    assert set(asked) == {"method", "model", "dataset", "lora", "training", "evaluation"}
    assert asked["lora"]["rank"] == 8
    assert asked["training"]["learningRate"] == "2e-2"
    assert asked["training"]["weightDecay"] == "0.01"  # a default


def test_the_adapter_names_its_base_by_the_mounted_path(run: Any, tiny_model: Path) -> None:
    settings = json.loads((run.adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model)
    seven = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert settings["target_modules"] == seven  # AllLinear of a Llama


def test_plain_peft_loads_the_adapter_and_gives_the_answers_of_the_report(run: Any, tiny_model: Path) -> None:
    plain = PlainPeft(tiny_model, run.adapter)
    report = json.loads((run.evaluation_folder / "report.json").read_text())
    assert len(report["samples"]) == 3
    for sample in report["samples"]:
        assert plain.answer(sample["prompt"], 24) == sample["tuned"]["answer"]


def test_progress_goes_from_the_first_step_to_the_last_with_the_newest_loss(run: Any) -> None:
    statuses = [progress_of(push, "Train", "pod") for push in run.training_pushes]
    steps = [status.step for status in statuses]
    assert steps == sorted(steps)
    last = statuses[-1]
    assert (last.step, last.total_steps, last.percent, last.remaining_seconds) == (40, 40, 100, 0)
    assert float(last.loss or "nan") == pytest.approx(float(run.training.training.final_loss))
    assert last.learning_rate is not None
    assert last.epoch == "5"
    assert (last.tokens_per_second or 0) > 0


def test_the_evaluation_counts_rows_and_keeps_the_final_loss(run: Any) -> None:
    last = progress_of(run.evaluation_pushes[-1], "Evaluate", "pod")
    assert (last.step, last.total_steps) == (24, 24)
    assert last.loss == run.training.training.final_loss


def test_the_lineage_ties_rows_model_spec_and_versions(run: Any) -> None:
    trained, scored = run.training.lineage, run.evaluation.lineage
    assert scored.training_sha256 == trained.training_sha256 == run.config.training_sha256
    assert (scored.evaluation_sha256, trained.evaluation_sha256) == (run.config.evaluation_sha256, None)
    assert scored.dataset_sha256 == trained.dataset_sha256
    assert scored.model_sha256 == trained.model_sha256
    assert scored.evaluation_dataset_sha256 not in (None, scored.dataset_sha256)
    assert scored.seed == 700
    for result in (run.training, run.evaluation):
        assert "unsloth==" in result.stage_lineage.packages
        assert result.stage_lineage.device == "CPU"


def test_the_loss_of_every_step_lies_beside_the_result_whose_last_one_is_the_mean_since_the_last_logged(
    run: Any,
) -> None:
    training = run.training.training
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert float(training.first_loss) == pytest.approx(lines[0]["loss"], rel=1e-5)
    since = [line["loss"] for line in lines if line["step"] > 30]  # loggingSteps 15
    assert float(training.final_loss) == pytest.approx(sum(since) / len(since), rel=1e-5)
    assert float(training.final_gradient_norm) == pytest.approx(lines[-1]["gradientNorm"], rel=1e-5)
    assert training.metrics_uri == f"{run.run_folder.uri}/metrics.jsonl"
    assert (training.engine, training.attention, training.warmup_steps) == ("Unsloth", None, 0)


def test_nothing_in_a_result_is_empty(run: Any) -> None:
    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in empty(inner, f"{path}.{name}")]
        return [path] if value in ("", None, [], {}) else []

    for folder in (run.folder, run.evaluation_folder):
        document = json.loads((folder / "result.json").read_text())
        assert [path for path in empty(document, "") if path not in (".advice", ".memory.devices")] == []


def test_memory_of_the_process_is_told_on_a_cpu(run: Any) -> None:
    memory = run.training.memory
    assert memory.devices == []
    assert memory.host.peak_bytes >= memory.host.before_bytes > 100 << 20
    assert "GiB" in memory.summary


def test_a_second_attempt_of_the_same_job_returns_the_result_at_once(run: Any) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    (run.folder.parent / "latest").unlink()  # as a kill between the result and the link leaves it
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert encode(train(run.config, None)) == encode(run.training)
    assert encode(evaluate(run.config, None)) == encode(run.evaluation)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()} == before
    assert (run.folder.parent / "latest").resolve() == run.folder


def test_another_specs_or_a_damaged_adapter_is_not_taken_for_whole(run: Any, tmp_path: Path) -> None:
    from finetune_trainer.models.artefacts import finished_training
    from finetune_trainer.stage.run_folder import RunFolder

    assert finished_training(run.run_folder, run.config)
    other = run.config.model_copy(update={"training_sha256": "0" * 64})
    assert finished_training(run.run_folder, other) is None
    copy = RunFolder(tmp_path / run.folder.name, run.run_folder.uri)
    shutil.copytree(run.folder, copy.path)
    assert finished_training(copy, run.config)
    weights = copy.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    assert finished_training(copy, run.config) is None


def test_the_same_job_under_another_name_reuses_training_and_evaluation_and_changes_nothing(run: Any) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    namesake = JobReference(namespace="ml", name="twin", uid="uid-2-of-a-twin")
    twin = run.config.model_copy(update={"job": namesake})
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    trained, scored = train(twin, None), evaluate(twin, None)
    for result, first in ((trained, run.training), (scored, run.evaluation)):
        assert (result.job_uid, result.reused) == ("uid-2-of-a-twin", True)
        assert encode(result) == encode(first.model_copy(update={"job_uid": result.job_uid, "reused": True}))
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in run.folder.parent.iterdir()) == [run.folder.name, "latest", ROW_CACHE]


def test_the_same_spec_over_other_rows_trains_beside_the_first_whose_digest_stays_true(
    run: Any, tmp_path: Path
) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    shutil.copytree(run.folder.parent.parent, tmp_path / "work", symlinks=True)
    rows = tmp_path / "work" / "rows" / "train.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    mounts = [
        mount.model_copy(update={"path": str(tmp_path / "work")}) if mount.claim == "work" else mount
        for mount in run.config.mounts
    ]
    job = JobReference(namespace="ml", name="other", uid="uid-3-of-another")
    other = run.config.model_copy(update={"job": job, "mounts": mounts})
    trained = train(other, None)
    assert not trained.reused
    assert trained.adapter
    assert trained.adapter.uri == f"{run.run_folder.uri}-uid-3-of/adapter"
    assert trained.adapter.sha256 != run.training.adapter.sha256
    scored = evaluate(other, None)
    assert scored.evaluation
    assert scored.evaluation.report_uri.startswith(f"{run.run_folder.uri}-uid-3-of/evaluations/")
    kept = tmp_path / "work" / "out" / run.folder.name
    assert sha256_of_file(kept / "adapter" / MANIFEST) == run.training.adapter.sha256
    assert read_manifest(kept / "adapter")


def test_an_evaluation_without_an_adapter_fails_clearly(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate

    with pytest.raises(StageError, match="no whole adapter") as caught:
        evaluate(make_config(tmp_path), None)
    assert caught.value.reason is Reason.EVALUATION_FAILED


def test_perplexity_is_the_exponential_of_what_the_report_adds_up(run: Any) -> None:
    rows = json.loads((run.evaluation_folder / "report.json").read_text())["rows"]
    total = sum(row["tuned"]["Perplexity"]["rightLogLikelihood"] for row in rows)
    tokens = sum(row["tuned"]["Perplexity"]["rightTokens"] for row in rows)
    perplexity = run.evaluation.evaluation.metric("Perplexity").tuned.value
    assert float(perplexity) == pytest.approx(math.exp(-total / tokens), rel=1e-3)


@pytest.mark.parametrize(("template", "end"), [("ChatML", "<|im_end|>"), ("Llama3", ""), ("Alpaca", "")])
def test_a_base_model_without_a_template_is_trained_and_scored_with_a_named_one(
    make_config: Any, tiny_model: Path, tmp_path: Path, template: str, end: str
) -> None:
    from transformers import AutoTokenizer

    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    bare = tmp_path / "models" / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    training = {"maxSteps": 40, "learningRate": "2e-2"}
    config = make_config(tmp_path, model=bare, chat_template=template, training=training)
    train(config, ProgressPusher(lambda _: None))
    evaluation = evaluate(config, ProgressPusher(lambda _: None)).evaluation
    assert evaluation
    accuracy = evaluation.metric("Accuracy")
    assert float(accuracy.tuned.value) > float(accuracy.base.value)
    # What is saved with the adapter renders and ends turns as training did, whoever serves it.
    tokenizer: Any = AutoTokenizer.from_pretrained(next((tmp_path / "out").glob("*/adapter")))
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.rstrip("\n").endswith(f"Here.{end or tokenizer.eos_token}"), text
    assert all(sample.tuned.text.startswith("The correct answer is") for sample in evaluation.samples)
