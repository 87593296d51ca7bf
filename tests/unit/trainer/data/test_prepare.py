"""What a stage finds before it loads a model, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.prepare import prepare_evaluation, prepare_training
from trainer_inputs import refusal, run_config

HELD_OUT = [{"question": f"Who {number}?", "options": ["one", "two"], "answer_idx": 0} for number in range(4)]
TRAINED = [{"question": f"Which {number}?", "options": ["one", "two"], "answer_idx": 1} for number in range(6)]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows" / "train.jsonl", TRAINED)
    write(tmp_path / "rows" / "test.jsonl", HELD_OUT)
    return tmp_path


def configured(claim: Path, evaluation: dict[str, Any] | None = None, uid: str = "uid-1") -> RunConfig:
    spec: dict[str, Any] = {
        "model": {"source": "pvc://work/model"},
        "dataset": {"source": "pvc://work/rows"},
        "evaluation": evaluation or {"dataset": {"source": "pvc://work/rows"}},
        "output": {"destination": "pvc://work/out"},
        "runtime": {"gpusPerNode": 0},
    }
    return run_config(spec, {"work": claim}, uid)


def test_training_finds_all_and_pins_it(claim: Path) -> None:
    config = configured(claim)
    inputs = prepare_training(config, None)
    assert inputs.held_out
    assert list(inputs.sources.training) == ["dataset"]
    assert len(inputs.held_out.examples) == 4
    assert inputs.pins.evaluation_dataset_sha256 == inputs.held_out.sha256
    assert inputs.pins.model_sha256 == inputs.sources.model.sha256
    assert (inputs.pins.job_uid, inputs.pins.training_sha256) == ("uid-1", config.training_sha256)
    assert prepare_training(config, inputs.pins).pins == inputs.pins


def test_what_the_training_counted_is_told_by_the_evaluation_without_the_training_rows(claim: Path) -> None:
    config = configured(claim)
    pins = prepare_training(config, None).pins.model_copy(update={"shared_examples": 1})
    (claim / "rows" / "train.jsonl").write_text("not read")
    evaluation = prepare_evaluation(config, pins)
    (advice,) = evaluation.advice
    assert (evaluation.shared, advice.reason) == (1, "SharedQuestions")
    assert advice.message.startswith("1 of 4 held-out rows ask what a training row asks")


def test_an_evaluation_of_another_jobs_training_counts_for_itself(claim: Path) -> None:
    pins = prepare_training(configured(claim), None).pins
    dev = [TRAINED[1], *({**row, "question": f"Whose {row['question']}"} for row in HELD_OUT * 3)]
    write(claim / "rows" / "dev.jsonl", dev)
    other = configured(claim, {"dataset": {"source": "pvc://work/rows", "split": "dev"}}, "uid-2")
    assert prepare_evaluation(other, pins).shared == 1
    write(claim / "rows" / "dev.jsonl", dev[:2])
    text = refusal(lambda: prepare_evaluation(other, pins), Reason.DATASET_INVALID)
    assert text.startswith("1 of 2 held-out rows of dev.jsonl (50.0%) ask what a training row asks, at most 10.0% may")
    same_rows = configured(claim, {"dataset": {"source": "pvc://work/rows/train.jsonl"}}, "uid-3")
    text = refusal(lambda: prepare_evaluation(same_rows, pins), Reason.DATASET_INVALID)
    assert "spec.evaluation.dataset holds the very rows that are trained on" in text


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("model/config.json", Reason.MODEL_NOT_FOUND, "the base model changed"),
        ("rows/test.jsonl", Reason.DATASET_INVALID, "the held-out rows changed"),
    ],
)
def test_a_retry_refuses_what_changed_since_the_first_attempt(
    claim: Path, name: str, reason: Reason, words: str
) -> None:
    config = configured(claim)
    pins = prepare_training(config, None).pins
    text = (claim / name).read_text().replace("one", "eins").replace("{}", "{ }")
    (claim / name).write_text(text)
    assert words in refusal(lambda: prepare_training(config, pins), reason)


@pytest.mark.parametrize(
    ("name", "words"), [("model/config.json", "the base model"), ("rows/test.jsonl", "the held-out rows")]
)
def test_an_evaluation_refuses_what_changed_since_the_training(claim: Path, name: str, words: str) -> None:
    config = configured(claim)
    pins = prepare_training(config, None).pins
    (claim / name).write_text((claim / name).read_text().replace("one", "eins").replace("{}", "{ }"))
    reason = Reason.MODEL_NOT_FOUND if "model" in name else Reason.DATASET_INVALID
    assert f"{words} changed since the run began" in refusal(lambda: prepare_evaluation(config, pins), reason)
