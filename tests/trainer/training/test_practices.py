"""Every practice in one job: the sample of the practices itself, on a tiny model and rows of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.config import RunConfig
from finetune_api.results import StageResult
from finetune_trainer.stage.files import read_manifest
from trainer_inputs import folder_of, run_config

SAMPLE = Path(__file__).parents[3] / "manifests/samples/medqa-practices.yaml"
HERE = {
    "hf://unsloth/Llama-3.2-1B-Instruct": "pvc://models/tiny",
    "hf://Neelectric/MedQA-USMLE": "pvc://work/rows",
    "hf://allenai/ai2_arc": "pvc://work/general",
    "pvc://models/medqa-practices": "pvc://work/out",
}
# Consolidation beside replay, dropout, and a best step that lies neither at the end nor at a checkpoint of its own.
SHRUNK: dict[str, Any] = {
    "model": {"maxSequenceLength": 192},
    "lora": {"rank": 8, "dropout": "0.1"},
    "dataset": {"filters": {"maxOverlap": "1"}, "workers": 1},
    "training": {
        "batchSize": 4,
        "maxSteps": 40,
        "warmupSteps": 0,
        "loggingSteps": 1,
        "learningRate": "5e-2",
        "earlyStopping": {"everySteps": 3, "patience": 2, "minimumChange": "0.05"},
        "checkpoint": {"everySteps": 5, "keep": 1},
        "elasticWeightConsolidation": {"strength": "100", "maxExamples": 8},
    },
    "evaluation": {"maxNewTokens": 8},
    "runtime": {"gpusPerNode": 0},
}
WORDS = ("dry palms", "wet palms", "oil", "lotion", "sand", "ice")


def general_row(number: int) -> dict[str, Any]:
    """In the shape of ARC, some of whose rows number their options."""
    texts = [WORDS[(number + place) % len(WORDS)] for place in range(4)]
    labels = ["1", "2", "3", "4"] if number % 3 == 0 else ["A", "B", "C", "D"]
    question = f"Which of these makes the most heat in case {number}?"
    choices = {"text": texts, "label": labels}
    return {"id": f"G_{number}", "question": question, "choices": choices, "answerKey": labels[number % 4]}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found = {**one, **other}
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            found[name] = merged(one[name], other[name])
    return found


def moved(value: Any) -> Any:
    """The sample's sources and destination here; a file has no configurations."""
    if isinstance(value, dict):
        return {name: moved(one) for name, one in value.items() if name != "config"}
    return HERE.get(value, value) if isinstance(value, str) else value


def configured(make_config: Any, folder: Path, tiny_model: Path) -> RunConfig:
    make_config(folder)  # writes the rows
    for split, numbers in (("train", range(20)), ("validation", range(50, 58))):
        file = folder / "general" / f"{split}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(general_row(number)) + "\n" for number in numbers))
    spec = merged(moved(yaml.safe_load(SAMPLE.read_text())["spec"]), SHRUNK)
    spec["dataset"]["validation"]["fraction"] = "0.25"
    return run_config(spec, {"models": tiny_model.parent, "work": folder})


@dataclass(frozen=True)
class Done:
    config: RunConfig
    trained: StageResult
    output: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """metrics.jsonl, but for what tells of the clock."""
        lines = [json.loads(line) for line in (folder_of(self.config) / "metrics.jsonl").read_text().splitlines()]
        return [{name: one[name] for name in one if name not in ("tokensPerSecond", "stepSeconds")} for one in lines]


@pytest.fixture(scope="module")
def done(make_config: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run that nothing disturbed."""
    from contextlib import redirect_stdout
    from io import StringIO

    from finetune_trainer.training.train import train

    config = configured(make_config, tmp_path_factory.mktemp("practices"), tiny_model)
    told = StringIO()
    with redirect_stdout(told):
        trained = train(config, None)
    return Done(config, trained, told.getvalue())


def test_the_rows_of_each_practice_are_counted_once(done: Done) -> None:
    dataset = done.trained.dataset
    assert dataset
    trained = {one.name: one.rows for one in dataset.sources}
    assert dataset.rows == 32 + 20
    assert dataset.validation_examples == 8  # a quarter of the 32
    assert trained == {"dataset": 24, "replay": 3}  # a tenth of all
    assert {one.name: one.rows for one in dataset.dropped} == {"SetAside": 8, "NotSampled": 17}
    assert dataset.examples == sum(trained.values())
    assert "Fisher information of 8 rows" in done.output


def test_training_ends_where_it_no_longer_learns_and_saves_the_best(done: Done) -> None:
    training = done.trained.training
    assert training
    best = training.best_step
    assert best
    assert best % 5  # a checkpoint of its own
    assert training.stopped_early
    assert training.steps == best + 2 * 3 < 40
    looks = {line["step"]: line for line in done.lines if "validationLoss" in line}
    assert list(looks) == list(range(0, training.steps + 1, 3))
    assert float(training.validation_loss or "nan") == pytest.approx(looks[best]["validationLoss"], rel=1e-5)
    assert [point.step for point in training.retention] == list(looks)
    saved = training.retention_when_saved
    assert saved
    assert float(saved.perplexity) == pytest.approx(looks[best]["retentionPerplexity"], rel=1e-4)
    penalties = [line["penalty"] for line in done.lines if "penalty" in line]
    assert len(penalties) == training.steps
    assert penalties[0] == 0 < min(penalties[1:])
    assert training.examples_seen == 27 * (training.steps // 7) + 4 * (training.steps % 7)


def test_what_is_saved_is_the_best_merged_and_apart_and_scores_as_it_was_measured(done: Done) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate

    assert done.trained.adapter
    assert done.trained.model
    assert done.output.count("loaded back: the saved") == 2
    folder = folder_of(done.config)
    assert read_manifest(folder / "adapter")
    assert read_manifest(folder / "model")
    assert not (folder / "checkpoints").exists()
    training, evaluation = done.trained.training, evaluate(done.config, None).evaluation
    assert training
    assert evaluation
    assert evaluation.examples == 12
    assert evaluation.retention
    assert evaluation.retention.examples == 8
    (perplexity,) = (one for one in evaluation.retention.metrics if one.name == "Perplexity")
    assert perplexity.base
    assert perplexity.tuned
    saved = training.retention_when_saved
    assert saved
    assert float(perplexity.base.value) == pytest.approx(float(training.retention[0].perplexity), rel=2e-3)
    assert float(perplexity.tuned.value) == pytest.approx(float(saved.perplexity), rel=2e-3)


def killed(config: RunConfig, folder: Path, at: str) -> str:
    """What an attempt in a process of its own said until it was killed at a line that begins so."""
    file = folder / "config.json"
    file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-m", "finetune_trainer", "train", "--config", str(file)]
    said = ""
    with subprocess.Popen(
        [*command, "--termination-log", str(folder / "message")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            said += line
            if line.startswith(at):
                process.kill()
    assert process.returncode == -signal.SIGKILL, said
    return said


def test_killed_after_its_best_step_and_while_it_is_merged_it_ends_with_the_same_bytes(
    make_config: Any, tiny_model: Path, tmp_path: Path, done: Done
) -> None:
    from finetune_trainer.training.train import train

    assert done.trained.training
    best, steps = done.trained.training.best_step or 0, done.trained.training.steps
    config = configured(make_config, tmp_path, tiny_model)
    killed(config, tmp_path, at=f"step {best + 4}/")
    checkpoints = folder_of(config) / "checkpoints"
    kept = sorted(int(path.name.removeprefix("step-")) for path in checkpoints.glob("step-*"))
    assert kept == [best, best - best % 5 + 5]
    again = killed(config, tmp_path, at="merging the adapter")
    assert f"training starts at step {kept[-1]} of 40" in again
    assert "stopped early" in again
    result = train(config, None)
    training = result.training
    assert training
    assert training.resumed_from_step >= kept[-1]
    assert (training.best_step, training.steps, training.stopped_early) == (best, steps, True)
    ours, theirs = folder_of(config), folder_of(done.config)
    for name in ("adapter", "model"):
        found = read_manifest(ours / name)
        assert found
        assert found == read_manifest(theirs / name)
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert training.retention == done.trained.training.retention
    assert result.dataset
    assert done.trained.dataset
    assert result.dataset.model_copy(update={"cached": False}) == done.trained.dataset
    assert Done(config, result, "").lines == done.lines
