"""The real trainer on the CPU: one tiny model, and one trained and evaluated run that many tests look at."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.progress import ProgressPush
from finetune_api.results import StageResult
from finetune_api.run_folder import run_folder
from finetune_trainer.stage.environment import prepare_environment
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.stage.run_folder import RunFolder
from trainer_inputs import run_config

DATA = Path(__file__).parent.parent / "data"
CREATURES = ("heron", "otter", "badger", "lizard")
PLACES = ("river bank", "old barn", "pine wood", "stone wall")


def make_row(number: int) -> dict[str, Any]:
    """A short row that a model of two layers can learn: each creature has one home."""
    right = number % len(CREATURES)
    turn = (number // len(CREATURES)) % len(PLACES)
    places = PLACES[turn:] + PLACES[:turn]
    letter = "ABCD"[places.index(PLACES[right])]
    question = f"Where does {'a very ' * (number % 3)}old {CREATURES[right]} live?"
    options = dict(zip("ABCD", places, strict=True))
    return {"question": question, "options": options, "answer": PLACES[right], "answer_idx": letter}


def write_rows(path: Path, count: int, start: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(make_row(number)) + "\n" for number in range(start, start + count)))


def _make_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_models", DATA / "make_models.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A random Llama of two layers with SmolLM2's tokenizer, in a folder that ``from_pretrained`` loads."""
    folder = _make_models().model_cache() / "tiny"
    if not folder.is_dir():  # in a process of its own: here Unsloth must be imported before transformers
        subprocess.run([sys.executable, str(DATA / "make_models.py"), "tiny"], check=True)
    return Path(folder)


MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def make_config(tiny_model: Path) -> MakeConfig:
    """Builds the configuration of a run in a folder; ``sections`` are merged into the spec's."""

    def make(
        folder: Path, uid: str = "uid-1", model: Path = tiny_model, chat_template: str = "", **sections: Any
    ) -> RunConfig:
        if not (folder / "rows").is_dir():
            write_rows(folder / "rows" / "train.jsonl", 32)
            write_rows(folder / "rows" / "test.jsonl", 12, start=100)
        document: dict[str, Any] = {
            "model": {"source": f"pvc://models/{model.name}", "maxSequenceLength": 192},
            # Both files are of one small world, so that held-out rows ask what training rows ask.
            "dataset": {"source": "pvc://work/rows", "workers": 1, "filters": {"maxOverlap": "1"}},
            "lora": {"rank": 8},
            "training": {"batchSize": 4, "maxSteps": 2, "loggingSteps": 1, "warmupSteps": 0},
            "evaluation": {"dataset": {"source": "pvc://work/rows"}, "samplePrompts": 3, "maxNewTokens": 24},
            "output": {"destination": "pvc://work/out"},
            "runtime": {"gpusPerNode": 0},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        if chat_template:
            document["model"]["chatTemplate"] = chat_template
        return run_config(document, {"work": folder, "models": model.parent}, uid)

    return make


@pytest.fixture
def mount_volume(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size, such as 8m."""
    folder = tmp_path / "small"

    def mount(size: str) -> Path:
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # its prepared rows may still be mapped


def shared_folder(config: RunConfig) -> RunFolder:
    """The folder that the jobs of a training share."""
    uri = run_folder(config.spec.output.destination, config.training_sha256)
    return RunFolder(config.local_path(uri), uri)


@pytest.fixture(scope="session", autouse=True)
def trainer_environment(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the trainer sets before it imports anything, for as long as these tests run."""
    saved = dict(os.environ)
    prepare_environment(make_config(tmp_path_factory.mktemp("environment")))
    yield
    os.environ.clear()
    os.environ.update(saved)


@dataclass(frozen=True)
class Run:
    """A trained and evaluated run, with all that it pushed."""

    config: RunConfig
    run_folder: RunFolder
    training: StageResult
    evaluation: StageResult
    training_pushes: list[ProgressPush]
    evaluation_pushes: list[ProgressPush]

    @property
    def folder(self) -> Path:
        return self.run_folder.path

    @property
    def adapter(self) -> Path:
        return self.run_folder.adapter

    @property
    def evaluation_folder(self) -> Path:
        assert self.config.evaluation_sha256
        return self.folder / "evaluations" / self.config.evaluation_sha256[:12]


@pytest.fixture(scope="session")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Forty steps of four rows on the tiny model, then the evaluation."""
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    training = {"maxSteps": 40, "loggingSteps": 15, "learningRate": "2e-2"}
    config = make_config(tmp_path_factory.mktemp("run"), training=training)
    training_pushes: list[ProgressPush] = []
    evaluation_pushes: list[ProgressPush] = []
    training_result = _with_pushes(train, config, training_pushes)
    evaluation_result = _with_pushes(evaluate, config, evaluation_pushes)
    return Run(config, shared_folder(config), training_result, evaluation_result, training_pushes, evaluation_pushes)


def _with_pushes(
    stage: Callable[[RunConfig, ProgressPusher], StageResult], config: RunConfig, received: list[ProgressPush]
) -> StageResult:
    pusher = ProgressPusher(received.append, interval_seconds=0)
    try:
        return stage(config, pusher)
    finally:
        pusher.close()
