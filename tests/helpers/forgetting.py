"""Two tasks one after the other: what a model forgets of the first while it learns the second, and what helps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.run_folder import run_folder
from trainer_inputs import run_config

CREATURES = ("heron", "otter", "badger", "lizard", "falcon", "beetle", "salmon", "hedgehog")
HOMES = ("river bank", "old barn", "pine wood", "stone wall")
FOODS = ("small fish", "ripe seeds", "young frogs", "fallen fruit")
WORDS = ("", "a very ", "a rather ", "one quite ")


def rows(task: str, start: int, count: int) -> list[dict[str, Any]]:
    """Rows of a small world: each creature has one home and one food."""
    things = HOMES if task == "homes" else FOODS
    verb = "live" if task == "homes" else "eat"
    found = []
    for number in range(start, start + count):
        creature = number % len(CREATURES)
        right = things[creature % 4] if task == "homes" else things[(creature + creature // 4 + 1) % 4]
        turn = (number // 3) % 4
        options = dict(zip("ABCD", things[turn:] + things[:turn], strict=True))
        letter = next(key for key, value in options.items() if value == right)
        word = WORDS[(number // len(CREATURES)) % 4]
        question = f"{'Where' if task == 'homes' else 'What'} does {word}old {CREATURES[creature]} {verb}?"
        found.append({"question": question, "options": options, "answer": right, "answer_idx": letter})
    return found


def write_tasks(folder: Path) -> None:
    """Both tasks, each with rows to train on and rows of other wordings and orders."""
    for task in ("homes", "foods"):
        place = folder / task
        place.mkdir(parents=True, exist_ok=True)
        for split, start, count in (("train", 0, 64), ("test", 200, 32)):
            text = "".join(json.dumps(row) + "\n" for row in rows(task, start, count))
            (place / f"{split}.jsonl").write_text(text)


@dataclass(frozen=True)
class Point:
    """What a run came to at a step: loss of the second task's other rows, perplexity of the first one's."""

    step: int
    new_loss: float
    old_perplexity: float


@dataclass(frozen=True)
class Study:
    """A model that has learnt the first task, ready to learn the second in one way or another."""

    folder: Path
    model: Path

    def spec(self, seed: int, steps: int, **changes: Any) -> dict[str, Any]:
        dataset = changes.pop("dataset", {})
        training = changes.pop("training", {})
        return {
            "method": "Full",
            "model": {"source": f"pvc://model/{self.model.name}", "maxSequenceLength": 192},
            "dataset": {
                "source": "pvc://work/foods",
                "validation": {"source": "pvc://work/foods", "split": "test"},
                "filters": {"deduplication": "None", "maxOverlap": "1"},
                "workers": 1,
                **dataset,
            },
            "training": {
                "batchSize": 8,
                "maxSteps": steps,
                "warmupSteps": 0,
                "learningRate": "2e-3",
                "scheduler": "Constant",
                "seed": seed,
                **training,
            },
            "evaluation": {"dataset": {"source": "pvc://work/homes"}, "retention": {"source": "pvc://work/homes"}},
            "output": {"destination": "pvc://work/out"},
            "runtime": {"gpusPerNode": 0},
            **changes,
        }

    def learn(self, seed: int, steps: int, **changes: Any) -> list[Point]:
        """Learns the second task. Returns what was measured on the way."""
        from finetune_trainer.training.train import train

        spec = self.spec(seed, steps, **changes)
        config = run_config(spec, {"work": self.folder, "model": self.model.parent})
        train(config, None)
        return measured(config)


def measured(config: RunConfig) -> list[Point]:
    file = config.local_path(run_folder(config.spec.output.destination, config.training_sha256)) / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        Point(line["step"], line["validationLoss"], line["retentionPerplexity"])
        for line in lines
        if "retentionPerplexity" in line
    ]


def old_perplexity_at(points: list[Point], new_loss: float) -> float:
    """Perplexity of the first task where the second's loss first is so low, between two points on a straight line.

    Raises ValueError when the run never came to it.
    """
    for before, after in pairwise(points):
        if after.new_loss <= new_loss:
            share = (before.new_loss - new_loss) / (before.new_loss - after.new_loss)
            return before.old_perplexity + share * (after.old_perplexity - before.old_perplexity)
    raise ValueError(f"the new task's loss never fell to {new_loss}: {points[-1]}")


def learn_first_task(folder: Path, tiny_model: Path) -> Study:
    """Writes both tasks and gives the tiny model the first."""
    from finetune_trainer.training.train import train

    write_tasks(folder)
    spec: dict[str, Any] = {
        "method": "Full",
        "model": {"source": f"pvc://model/{tiny_model.name}", "maxSequenceLength": 192},
        "dataset": {"source": "pvc://work/homes", "workers": 1, "filters": {"deduplication": "None"}},
        "training": {"batchSize": 8, "maxSteps": 80, "learningRate": "3e-3"},
        "output": {"destination": "pvc://work/first"},
        "runtime": {"gpusPerNode": 0},
    }
    config = run_config(spec, {"work": folder, "model": tiny_model.parent})
    train(config, None)
    uri = run_folder(config.spec.output.destination, config.training_sha256)
    return Study(folder, config.local_path(uri) / "model")


REPLAYED = {"dataset": {"replay": {"source": "pvc://work/homes", "fraction": "0.3"}}}


def consolidated(strength: str) -> dict[str, Any]:
    """EWC alone: none of the general rows is trained on."""
    return {
        "dataset": {"replay": {"source": "pvc://work/homes", "fraction": "0"}},
        "training": {"elasticWeightConsolidation": {"strength": strength}},
    }
