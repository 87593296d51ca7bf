"""Training that ends when the loss of validation rows no longer falls, and saves what was best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from interrupted import train_until
from trainer_inputs import folder_of, refusal, with_other_rows

# Learns the rows by heart within some steps, and then gets worse at others.
LEARNING = {
    "learningRate": "5e-2",
    "maxSteps": 60,
    "scheduler": "Constant",
    "earlyStopping": {"everySteps": 4, "patience": 3},
    "checkpoint": {"everySteps": 1000, "keep": 1},
}
VALIDATION = {"source": "pvc://work/rows", "split": "other"}


def configured(make_config: Any, folder: Path, **training: Any) -> RunConfig:
    config: RunConfig = make_config(folder, dataset={"validation": VALIDATION}, training={**LEARNING, **training})
    with_other_rows(folder)
    return config


@pytest.fixture(scope="module")
def stopped(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, StageResult]:
    from finetune_trainer.training.train import train

    config = configured(make_config, tmp_path_factory.mktemp("stopped"))
    return config, train(config, None)


def lines_of(config: RunConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder_of(config) / "metrics.jsonl").read_text().splitlines()]


def test_training_ends_early_and_says_which_step_was_best(stopped: tuple[RunConfig, StageResult]) -> None:
    config, result = stopped
    training = result.training
    assert training
    assert training.stopped_early is True
    measured = {line["step"]: line["validationLoss"] for line in lines_of(config) if "validationLoss" in line}
    assert sorted(measured) == list(range(0, training.steps + 1, 4))
    after_first = {step: loss for step, loss in measured.items() if step}
    assert training.best_step == min(after_first, key=lambda step: after_first[step])
    assert training.steps == training.best_step + 3 * 4 < 60
    assert float(training.validation_loss or "nan") == pytest.approx(measured[training.best_step], rel=1e-5)
    assert result.dataset
    assert result.dataset.validation_examples == 16


def test_the_saved_adapter_is_bit_for_bit_that_of_a_run_that_ended_at_the_best_step(
    make_config: Any, tmp_path: Path, stopped: tuple[RunConfig, StageResult]
) -> None:
    from finetune_trainer.training.train import train

    assert stopped[1].training
    best = stopped[1].training.best_step
    # Constant rate and no warm-up: a shorter run takes the same steps.
    config = make_config(
        tmp_path,
        training={**LEARNING, "maxSteps": best, "earlyStopping": {"everySteps": 4, "patience": 1000}},
        dataset={"validation": VALIDATION},
    )
    with_other_rows(tmp_path)
    result = train(config, None)
    assert result.training
    assert result.training.best_step == best
    assert result.training.stopped_early is False
    name = "adapter/adapter_model.safetensors"
    assert (folder_of(config) / name).read_bytes() == (folder_of(stopped[0]) / name).read_bytes()
    assert {advice.reason for advice in result.advice} >= {"EarlyStoppingNeverFires"}


def test_the_validation_loss_is_that_of_a_plain_pass_over_the_rows_that_were_saved(
    stopped: tuple[RunConfig, StageResult],
) -> None:
    """By plain transformers and PEFT, on the saved adapter."""
    import torch

    from finetune_api.uris import parse_claim
    from finetune_trainer.data.chat_format import read_chat_format
    from finetune_trainer.data.formats import parse_row
    from finetune_trainer.data.tokenize import tokenise
    from finetune_trainer.models.loading import load_tokenizer
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.sources.model import ModelSource
    from finetune_trainer.stage.device import Device

    config, result = stopped
    spec, cpu = config.spec, Device("cpu", "CPU", 0, "float32")
    source = ModelSource(str(config.local_path(parse_claim(spec.model.source))), None, False)
    method = METHODS["QLoRA"]
    model = method.reload(folder_of(config) / "adapter", cpu, False)(method.load(source, cpu))
    chat = read_chat_format(load_tokenizer(source), spec.model, None)
    lines = (config.local_path(parse_claim("pvc://work/rows")) / "other.jsonl").read_text().splitlines()
    rows = tokenise([parse_row(json.loads(line), spec.dataset, "row") for line in lines], chat, 192, "Responses")
    total, count = 0.0, 0
    for one in rows:
        for row in one.rows:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
            labels = torch.tensor(row.labels[1:])
            total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            count += int((labels != -100).sum())
    assert result.training
    assert float(result.training.validation_loss or "nan") == pytest.approx(total / count, rel=1e-3)


def finish_as(stopped: tuple[RunConfig, StageResult], config: RunConfig) -> None:
    """Trains on to the end, which must be that of a run that nothing disturbed."""
    from finetune_trainer.training.train import train

    undisturbed, found = stopped[1].training, train(config, None).training
    assert undisturbed
    assert found
    assert (found.best_step, found.steps) == (undisturbed.best_step, undisturbed.steps)
    name = "adapter/adapter_model.safetensors"
    assert (folder_of(config) / name).read_bytes() == (folder_of(stopped[0]) / name).read_bytes()


def test_a_run_that_was_killed_after_its_best_step_stops_where_it_would_have(
    make_config: Any, tmp_path: Path, stopped: tuple[RunConfig, StageResult]
) -> None:
    assert stopped[1].training
    best = stopped[1].training.best_step
    assert best
    config = configured(make_config, tmp_path, checkpoint={"everySteps": 2, "keep": 1})
    train_until(config, best + 6)
    kept = sorted(path.name for path in (folder_of(config) / "checkpoints").glob("step-*"))
    assert kept == [f"step-{best:08}", f"step-{best + 6:08}"]  # the best stays beside the newest
    finish_as(stopped, config)


def test_a_run_that_was_told_to_stop_while_it_measured_its_best_step_measures_it_in_the_next_attempt(
    make_config: Any, tmp_path: Path, stopped: tuple[RunConfig, StageResult]
) -> None:
    assert stopped[1].training
    best = stopped[1].training.best_step
    assert best
    config = configured(make_config, tmp_path)
    train_until(config, best)
    measured = [line["step"] for line in lines_of(config) if "validationLoss" in line]
    assert measured == list(range(0, best, 4))
    finish_as(stopped, config)
    assert [one for one in lines_of(config) if "validationLoss" in one] == [
        one for one in lines_of(stopped[0]) if "validationLoss" in one
    ]


def test_a_share_of_the_rows_is_set_aside_by_the_seed_and_not_trained_on(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, dataset={"validation": {"fraction": "0.25"}}, training={"maxSteps": 2})
    result = train(config, None)
    assert result.dataset
    assert (result.dataset.examples, result.dataset.validation_examples) == (24, 8)
    assert [(one.name, one.rows) for one in result.dataset.dropped] == [("SetAside", 8)]
    assert result.training
    assert result.training.validation_loss
    assert result.training.best_step is None  # nothing was chosen by it


def test_validation_rows_that_are_the_held_out_rows_are_refused_whatever_their_name(
    make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.training.train import train

    config = configured(make_config, tmp_path)
    (tmp_path / "rows" / "other.jsonl").write_bytes((tmp_path / "rows" / "test.jsonl").read_bytes())
    text = refusal(lambda: train(config, None), Reason.DATASET_INVALID)
    assert "spec.dataset.validation holds 12 of the 12 rows that the evaluation scores (test.jsonl)" in text


def test_some_of_the_held_out_rows_are_refused_as_validation_rows_too(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.training.train import train

    few = {"validation": {**VALIDATION, "maxExamples": 3}}
    config = make_config(tmp_path, dataset=few, training={"maxSteps": 1})
    (tmp_path / "rows" / "other.jsonl").write_bytes((tmp_path / "rows" / "test.jsonl").read_bytes())
    text = refusal(lambda: train(config, None), Reason.DATASET_INVALID)
    assert "spec.dataset.validation holds 3 of the 12 rows that the evaluation scores" in text
