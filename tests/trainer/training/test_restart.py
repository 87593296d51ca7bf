"""A run that was stopped or killed ends as one that was not: the same adapter, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import ClaimMount, RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_api.termination import decode
from finetune_trainer.stage.files import read_manifest
from same_run import assert_same_run
from trainer_inputs import folder_of

# Dropout draws random numbers in each pass, and the second epoch has an order of its own.
LEARNING = {"learningRate": "1e-2", "maxSteps": 14, "warmupSteps": 2, "loggingSteps": 3, "scheduler": "Cosine"}


@pytest.fixture(scope="module")
def config_in(make_config: Any) -> Callable[..., RunConfig]:
    def make(folder: Path, every_steps: int = 4, **training: Any) -> RunConfig:
        checkpoint = {"everySteps": every_steps}
        config: RunConfig = make_config(
            folder, lora={"dropout": "0.1"}, training={**LEARNING, "checkpoint": checkpoint, **training}
        )
        return config

    return make


@dataclass(frozen=True)
class Attempt:
    code: int
    output: str
    result: StageResult | None


def attempt(
    config: RunConfig, folder: Path, stop_at: str = "", number: int = signal.SIGKILL, code: str = ""
) -> Attempt:
    """One process of the stage. It gets a signal when it prints a line that begins with ``stop_at``.

    ``code`` is run in it before anything else.
    """
    file, message = folder / "config.json", folder / "message"
    file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    message.unlink(missing_ok=True)
    main = f"import sys; {code}\nfrom finetune_trainer.cli import main\nsys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", main, "train", "--config", str(file), "--termination-log", str(message)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    lines = []
    assert process.stdout
    assert process.stderr
    for line in process.stdout:
        lines.append(line)
        if stop_at and line.startswith(stop_at):
            process.send_signal(number)
            stop_at = ""
    errors = process.stderr.read()
    returned = process.wait()
    watchdog.cancel()
    text = message.read_text() if message.exists() else ""
    return Attempt(returned, "".join(lines) + errors, decode(text) if text else None)


def finish(config: RunConfig) -> StageResult:
    """The next attempt, in this process: another one would take half a minute to start."""
    from finetune_trainer.training.train import train

    return train(config, None)


@pytest.fixture(scope="module")
def undisturbed(config_in: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a run that nothing stopped."""
    config = config_in(tmp_path_factory.mktemp("undisturbed"))
    finish(config)
    return folder_of(config)


@pytest.fixture(scope="module")
def interrupted(config_in: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run that was killed in a step after its second checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    config = config_in(folder)
    assert attempt(config, folder, stop_at="step 9/").code == -signal.SIGKILL
    return config, folder


def copied(interrupted: tuple[RunConfig, Path], folder: Path) -> RunConfig:
    config, theirs = interrupted
    shutil.copytree(theirs, folder, dirs_exist_ok=True, symlinks=True)
    mounts = [one.model_copy(update={"path": str(folder)}) if one.claim == "work" else one for one in config.mounts]
    return config.model_copy(update={"mounts": mounts})


def newest(config: RunConfig) -> Path:
    return sorted((folder_of(config) / "checkpoints").glob("step-*"))[-1]


def assert_same(config: RunConfig, undisturbed: Path) -> None:
    assert_same_run(folder_of(config), undisturbed)


def test_a_run_killed_in_a_step_and_again_later_ends_with_the_adapter_of_an_undisturbed_one(
    interrupted: tuple[RunConfig, Path], tmp_path: Path, undisturbed: Path
) -> None:
    config = copied(interrupted, tmp_path)
    second = attempt(config, tmp_path, stop_at="step 12/")
    assert second.code == -signal.SIGKILL
    assert "training starts at step 8 of 14" in second.output
    training = finish(config).training
    assert training
    assert training.resumed_from_step in (8, 12)  # the kill came before or after the third checkpoint
    assert_same(config, undisturbed)


# Stops for good in the middle of writing the second checkpoint, its tensors on disk, without its name.
KILLED_WHILE_SAVING = """
import os, signal
from finetune_trainer.stage import files
replace = files._replace_folder
def killed(draft, path):
    if path.name == 'step-00000008':
        os.kill(os.getpid(), signal.SIGKILL)
    replace(draft, path)
files._replace_folder = killed
"""


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before_and_leaves_no_half(
    config_in: Any, tmp_path: Path, undisturbed: Path
) -> None:
    config = config_in(tmp_path)
    assert attempt(config, tmp_path, code=KILLED_WHILE_SAVING).code == -signal.SIGKILL
    folder = folder_of(config) / "checkpoints"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["step-00000004"]
    assert any(path.name.startswith(".step-00000008") for path in folder.iterdir())  # the half
    training = finish(config).training
    assert training
    assert training.resumed_from_step == 4
    assert_same(config, undisturbed)


def test_sigterm_writes_a_checkpoint_of_the_last_step_and_the_next_attempt_goes_on_there(
    config_in: Any, tmp_path: Path, undisturbed: Path
) -> None:
    config = config_in(tmp_path, every_steps=1000)
    stopped = attempt(config, tmp_path, stop_at="step 6/", number=signal.SIGTERM)
    assert stopped.code == 75, stopped.output
    assert stopped.result
    assert stopped.result.failure
    assert stopped.result.failure.reason == Reason.INTERRUPTED
    assert "stopped by SIGTERM at step" in stopped.result.failure.message
    assert "the next attempt goes on from there" in stopped.result.failure.message
    (saved,) = (folder_of(config) / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert 6 <= step < 14
    training = finish(config).training
    assert training
    assert training.resumed_from_step == step
    assert_same(config, undisturbed)


def test_a_run_goes_on_from_checkpoints_on_a_claim_of_their_own_which_is_empty_in_the_end(
    config_in: Any, tmp_path: Path, undisturbed: Path
) -> None:
    plain = config_in(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    checkpoint = plain.spec.training.checkpoint.model_copy(update={"claim_name": "scratch"})
    training = plain.spec.training.model_copy(update={"checkpoint": checkpoint})
    config = plain.model_copy(
        update={
            "spec": plain.spec.model_copy(update={"training": training}),
            "mounts": [*plain.mounts, ClaimMount(claim="scratch", path=str(scratch))],
        }
    )
    assert config.training_sha256 == config.spec.training_sha256()  # where checkpoints lie makes no other adapter
    assert attempt(config, tmp_path, stop_at="step 9/").code == -signal.SIGKILL
    kept = scratch / "checkpoints/work/out" / folder_of(config).name
    assert sorted(path.name for path in kept.iterdir())[-1] == "step-00000008"
    assert not (folder_of(config) / "checkpoints").exists()
    result = finish(config)
    assert result.training
    assert result.training.resumed_from_step == 8
    assert not kept.exists()
    assert_same(config, undisturbed)


def cut_tensors(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def drop_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def empty_it(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


@pytest.mark.parametrize("damage", [cut_tensors, flip_a_bit, drop_the_manifest, empty_it])
def test_a_damaged_checkpoint_is_passed_over_with_a_line_for_the_one_before(
    interrupted: tuple[RunConfig, Path],
    tmp_path: Path,
    undisturbed: Path,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = copied(interrupted, tmp_path)
    assert newest(config).name == "step-00000008"
    damage(newest(config))
    finish(config)
    output = capsys.readouterr().out
    assert "checkpoint step-00000008 is incomplete or damaged; it is passed over" in output
    assert "going on from checkpoint step-00000004" in output
    assert_same(config, undisturbed)


def test_a_checkpoint_of_another_spec_is_passed_over(
    interrupted: tuple[RunConfig, Path], tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune_trainer.stage.files import new_folder

    config = copied(interrupted, tmp_path)
    checkpoint = newest(config)
    state = json.loads((checkpoint / "state.json").read_text())
    state["identity"]["trainingSha256"] = "0" * 64
    kept = tmp_path / "kept"
    checkpoint.rename(kept)
    with new_folder(checkpoint) as draft:
        shutil.copy(kept / "state.safetensors", draft)
        (draft / "state.json").write_text(json.dumps(state))
    finish(config)
    assert "step-00000008 is of another run: its training_sha256 differ" in capsys.readouterr().out
    assert_same(config, undisturbed)


def test_only_the_newest_checkpoints_stay_and_each_is_whole(interrupted: tuple[RunConfig, Path]) -> None:
    config, _ = interrupted
    found = sorted((folder_of(config) / "checkpoints").glob("step-*"))
    assert [path.name for path in found] == ["step-00000004", "step-00000008"]
    assert all(read_manifest(path) for path in found)


def test_what_was_told_of_the_steps_is_on_the_disk_before_the_checkpoint_after_them(
    config_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a node that fails would leave a checkpoint, and a hole in the file before it."""
    synced, fsync = [], os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    finish(config_in(tmp_path))
    order = [name for name in synced if name in ("metrics.jsonl", "state.safetensors")]
    assert order == ["metrics.jsonl", "state.safetensors"] * 3  # steps 4, 8 and 12
