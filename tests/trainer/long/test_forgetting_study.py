"""Two tasks one after the other, several seeds, by Full and by LoRA: what replay and EWC are worth."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from forgetting import REPLAYED, Point, Study, consolidated, learn_first_task, old_perplexity_at

SEEDS = (1, 2, 3)
STEPS = 40
LORA: dict[str, Any] = {"method": "LoRA", "lora": {"rank": 16}}


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return learn_first_task(tmp_path_factory.mktemp("study"), tiny_model)


def forgotten(runs: list[Point], level: float) -> float:
    return old_perplexity_at(runs, level) - runs[0].old_perplexity


@pytest.mark.parametrize(
    ("method", "rate", "strength", "level"),
    [({}, "2e-3", "1e5", 0.3), (LORA, "1e-2", "1e5", 0.6)],
    ids=["Full", "LoRA"],
)
def test_replay_and_consolidation_forget_less_for_every_seed_at_the_same_loss_of_the_new_task(
    study: Study, method: dict[str, Any], rate: str, strength: str, level: float
) -> None:
    found: dict[str, list[float]] = {"plain": [], "replay": [], "consolidation": []}
    ways: dict[str, dict[str, Any]] = {"plain": {}, "replay": REPLAYED, "consolidation": consolidated(strength)}
    for seed in SEEDS:
        for name, changes in ways.items():
            training = {"learningRate": rate, **changes.get("training", {})}
            points = study.learn(seed, STEPS, **{**method, **changes, "training": training})
            found[name].append(forgotten(points, level))
    for name, values in found.items():
        print(f"{name}: perplexity of the old task grew by {', '.join(f'{value:.2f}' for value in values)}")
    for name in ("replay", "consolidation"):
        assert all(ours < plain for ours, plain in zip(found[name], found["plain"], strict=True)), name
        assert statistics.fmean(found[name]) < 0.6 * statistics.fmean(found["plain"]), name
