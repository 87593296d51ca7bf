"""Trainings killed again and again, at random moments of their lives, end as undisturbed ones."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_trainer.stage.files import read_manifest
from forked_stage import Attempt, start
from same_run import assert_same_run
from trainer_inputs import folder_of, with_method, with_other_rows

STEPS, KILLS, SEEDS = 36, 5, (1, 2, 3, 4)
LONGEST_SECONDS = 120.0
LEARNING = {
    "learningRate": "1e-2",
    "maxSteps": STEPS,
    "warmupSteps": 2,
    "loggingSteps": 3,
    "scheduler": "Cosine",
    "checkpoint": {"everySteps": 3},
}
# Gets worse at the validation rows long before it has taken all steps: an earlier checkpoint is what it saves.
STOPPING = {
    "learningRate": "5e-2",
    "maxSteps": 2 * STEPS,
    "scheduler": "Constant",
    "earlyStopping": {"everySteps": 4, "patience": 3},
}
KINDS: dict[str, dict[str, Any]] = {
    "QLoRA": {
        "lora": {"dropout": "0.1"},
        "dataset": {"packing": "Enabled", "validation": {"source": "pvc://work/rows", "split": "other"}},
        "training": LEARNING | STOPPING,
    },
    "LoRA": {"lora": {"dropout": "0.1"}, "training": LEARNING},
    "Full": {"training": LEARNING | {"learningRate": "1e-3"}},
}
MethodConfig = Callable[[Path, str], RunConfig]


@pytest.fixture(scope="module")
def configured(make_config: Any) -> MethodConfig:
    def make(folder: Path, method: str) -> RunConfig:
        config = with_method(make_config(folder), method, **KINDS[method])
        with_other_rows(folder)
        return config

    return make


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(configured: MethodConfig, request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, Path]:
    """A method, and the folder of its run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = configured(folder, request.param)
    attempt = start(config, folder, 0)
    attempt.wait(LONGEST_SECONDS)
    assert attempt.process.exitcode == 0, attempt.output
    return request.param, folder_of(config)


@dataclass(frozen=True)
class Moment:
    """When an attempt is killed: so long after something is seen of it, once it has come to a step."""

    what: str
    seconds: float
    step: int | None = None  # None: at once
    seen: Callable[[Path], bool] = field(default=lambda _: True, repr=False)

    def has_come(self, attempt: Attempt, folder: Path) -> bool:
        """Whether the clock is to start."""
        is_there = self.step is None or (attempt.first_step is not None and last_step(folder) >= self.step)
        return is_there and self.seen(folder)


def draw(source: random.Random, saved: int, is_last: bool) -> Moment:
    """A moment of any phase, however short it is; the last one is where the adapter or model is saved."""
    step = saved + source.randint(0, 2 * STEPS // KILLS)
    moments = [
        Moment("while it loads", source.uniform(0.0, 2.0)),
        Moment("in a step", source.uniform(0.0, 0.1), step),
        Moment(
            "while it saves a checkpoint", source.uniform(0.0, 0.03), step, lambda run: has_draft(run / "checkpoints")
        ),
    ]
    end = Moment("while it saves what it has trained", source.uniform(0.0, 1.0), saved, has_draft)
    return end if is_last else source.choice(moments)


def has_draft(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.glob(".*-*"))


def last_step(folder: Path) -> int:
    """The last step that is told of, by whichever attempt; the last line may be a half."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def kill_at(attempt: Attempt, moment: Moment, folder: Path) -> bool:
    """Kills an attempt unless it has ended well before; says whether it was killed."""
    process, deadline = attempt.process, time.monotonic() + LONGEST_SECONDS
    while process.is_alive() and not moment.has_come(attempt, folder) and time.monotonic() < deadline:
        process.join(0.001)
    attempt.wait(moment.seconds)
    assert time.monotonic() < deadline, f"{moment} did not come: {attempt.output}"
    assert process.exitcode in (0, -signal.SIGKILL), attempt.output
    return process.exitcode != 0


def saved_step(folder: Path) -> int:
    """The step that the next attempt is to go on from."""
    whole = (path for path in (folder / "checkpoints").glob("step-*") if read_manifest(path))
    return max((int(path.name.removeprefix("step-")) for path in whole), default=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_training_killed_at_random_moments_ends_as_an_undisturbed_one(
    configured: MethodConfig, tmp_path: Path, undisturbed: tuple[str, Path], seed: int
) -> None:
    method, theirs = undisturbed
    config, source = configured(tmp_path, method), random.Random(f"{method} {seed}")
    ours = folder_of(config)
    saved = 0
    for number in range(KILLS + 1):
        before, saved = saved, saved_step(ours)
        is_trained = (ours / "result.json").exists()
        assert is_trained or saved >= before
        attempt = start(config, tmp_path, number)
        if number < KILLS:
            moment = draw(source, saved, is_last=number == KILLS - 1)
            killed = kill_at(attempt, moment, ours)
            print(f"attempt {number} from step {saved}: {moment}{'' if killed else ', but it ended before'}")
        else:
            attempt.wait(LONGEST_SECONDS)
            assert attempt.process.exitcode == 0, attempt.output
        if is_trained:
            assert not attempt.told_steps
        else:
            assert attempt.first_step in (None, saved), attempt.output
            assert attempt.told_steps == sorted(attempt.told_steps)
            assert all(step >= saved for step in attempt.told_steps)
    assert_same_run(ours, theirs)
