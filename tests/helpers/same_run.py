"""Two runs of one training that came to the same: what was saved to the bit, and the same story of it."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

from finetune_trainer.stage.files import read_manifest

# What tells of the clock or of the attempts.
_OF_A_STEP = {"tokensPerSecond", "stepSeconds"}
_OF_A_RUN = {"runtime", "runtimeSeconds", "resumedFromStep"}


def assert_same_run(ours: Path, undisturbed: Path) -> None:
    """The run in one folder ended as that in the other, and left nothing behind."""
    here, there = _metrics(ours), _metrics(undisturbed)
    steps = [line["step"] for line in here if "loss" in line]
    assert steps == list(range(1, _training(ours)["steps"] + 1)), f"steps {steps}"
    odd = next((pair for pair in zip_longest(here, there) if pair[0] != pair[1]), None)
    assert odd is None, f"{odd[0]} is not {odd[1]}"
    assert _training(ours) == _training(undisturbed), f"{_training(ours)} is not {_training(undisturbed)}"
    saved = [name for name in ("adapter", "model") if read_manifest(undisturbed / name)]
    assert saved, f"nothing whole in {undisturbed}"
    for name in saved:
        assert read_manifest(ours / name) == read_manifest(undisturbed / name), f"{name} in {ours}"
    left = [path.name for path in ours.rglob("*") if path.name.startswith(".") or path.name == "checkpoints"]
    assert not left, f"left behind: {left}"


def _metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in _OF_A_STEP} for line in lines]


def _training(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())["training"]
    return {name: value for name, value in result.items() if name not in _OF_A_RUN}
