"""What goes wrong in the middle of a run: a clear end, nothing half-written, and the last good checkpoint stays."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import ClaimMount, RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage.files import read_manifest
from interrupted import train_until
from trainer_inputs import folder_of, refusal

LEARNING = {"learningRate": "1e-2", "maxSteps": 12, "loggingSteps": 1, "checkpoint": {"everySteps": 4}}


def run(config: RunConfig) -> Any:
    from finetune_trainer.training.train import train

    return train(config, None)


@pytest.fixture
def small_volume(mount_volume: Callable[[str], Path]) -> Path:
    return mount_volume("16m")


def test_a_volume_that_fills_up_in_mid_run_ends_as_storage_full_and_the_run_goes_on_when_there_is_room(
    make_config: Any, tmp_path: Path, small_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.training.reporter import StepReporter

    def on(destination: str) -> RunConfig:
        config: RunConfig = make_config(tmp_path, training=LEARNING, output={"destination": destination})
        return config.model_copy(update={"mounts": [*config.mounts, ClaimMount(claim="small", path=str(small_volume))]})

    config, filler, told = on("pvc://small/out"), small_volume / "filler", StepReporter.step

    def fill(self: Any, entry: Any, total: int) -> None:
        told(self, entry, total)
        if entry.step == 6:
            with suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(b"0" * 4096)

    monkeypatch.setattr(StepReporter, "step", fill)
    with pytest.raises(Exception, match="No space left") as caught:
        run(config)
    monkeypatch.setattr(StepReporter, "step", told)
    failure = failure_of(caught.value)
    assert failure.reason == Reason.STORAGE_FULL
    checkpoints = folder_of(config) / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000004"]  # and no half of another
    assert read_manifest(checkpoints / "step-00000004")
    filler.unlink()
    result = run(config)
    assert result.training.resumed_from_step == 4
    undisturbed = on("pvc://work/out")
    run(undisturbed)
    name = "adapter/adapter_model.safetensors"
    assert (folder_of(config) / name).read_bytes() == (folder_of(undisturbed) / name).read_bytes()


def test_a_claim_of_checkpoints_that_turns_read_only_in_mid_run_ends_it_and_the_last_checkpoint_stays(
    make_config: Any, tmp_path: Path, small_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.training.reporter import StepReporter

    training = {**LEARNING, "checkpoint": {"everySteps": 4, "claimName": "small"}}
    config: RunConfig = make_config(tmp_path, training=training)
    config = config.model_copy(update={"mounts": [*config.mounts, ClaimMount(claim="small", path=str(small_volume))]})
    told = StepReporter.step

    def turn(self: Any, entry: Any, total: int) -> None:
        told(self, entry, total)
        if entry.step == 6:
            subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)

    monkeypatch.setattr(StepReporter, "step", turn)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        run(config)
    monkeypatch.setattr(StepReporter, "step", told)
    assert failure_of(caught.value).reason == Reason.STORAGE_UNSUITABLE
    assert "checkpoint.claimName small" in refusal(lambda: run(config), Reason.STORAGE_UNSUITABLE)  # at once
    subprocess.run(["mount", "-o", "remount,rw", str(small_volume)], check=True)
    (checkpoints,) = small_volume.glob("checkpoints/work/out/*")
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000004"]
    assert run(config).training.resumed_from_step == 4
    assert not checkpoints.exists()


def test_a_run_that_had_room_when_it_began_goes_on_beside_its_own_checkpoints(
    make_config: Any, tmp_path: Path, mount_volume: Callable[[str], Path]
) -> None:
    volume = mount_volume("31m")  # the run asks for 24.7 MiB of it, and has written 9 MiB of that when it is stopped
    checkpoint = {"everySteps": 1, "keep": 4}
    config: RunConfig = make_config(
        tmp_path,
        lora={"rank": 128},
        training={"maxSteps": 4, "checkpoint": checkpoint},
        output={"destination": "pvc://small/out"},
    )
    config = config.model_copy(update={"mounts": [*config.mounts, ClaimMount(claim="small", path=str(volume))]})
    train_until(config, 3)
    assert run(config).training.resumed_from_step == 3


def test_a_run_that_diverges_names_its_last_good_checkpoint_which_stays(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.training.engines.unsloth.trainer import UnslothStepper

    config = make_config(tmp_path, training=LEARNING)
    take = UnslothStepper.step

    def broken(self: Any, batch: Any, rate: float) -> Any:
        outcome = take(self, batch, rate)
        if self._trainer.state.global_step == 6:
            import torch

            with torch.no_grad():
                self._trained[0].fill_(float("nan"))
        return outcome

    monkeypatch.setattr(UnslothStepper, "step", broken)
    text = refusal(lambda: run(config), Reason.LOSS_DIVERGED)
    assert "the loss is nan at step 7 of 12; the last good checkpoint is of step 4" in text
    assert read_manifest(folder_of(config) / "checkpoints" / "step-00000004")
    assert not (folder_of(config) / "adapter").exists()


def test_a_gradient_that_is_no_number_ends_the_run_before_its_weights_become_a_checkpoint(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, training=LEARNING)

    from finetune_trainer.training.engines import load_engine

    load_engine()
    from finetune_trainer.training.engines.unsloth.trainer import UnslothStepper

    take = UnslothStepper._gradients

    def broken(self: Any, batch: Any) -> Any:
        loss = take(self, batch)
        if self._trainer.state.global_step == 7:
            self._trained[0].grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(UnslothStepper, "_gradients", broken)
    text = refusal(lambda: run(config), Reason.LOSS_DIVERGED)
    assert "the gradient is nan at step 8 of 12; the last good checkpoint is of step 4" in text
    assert [path.name for path in (folder_of(config) / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_learning_rate_that_tears_the_weights_apart_ends_the_run(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.training.schedule import LearningRates

    # Clipped gradients keep a plain rate from doing so at the beginning.
    monkeypatch.setattr(LearningRates, "at", lambda self, step: 2e-2 if step < 30 else 3.0)
    training = {"maxSteps": 80, "batchSize": 8, "loggingSteps": 1}
    text = refusal(lambda: run(make_config(tmp_path, training=training)), Reason.LOSS_DIVERGED)
    assert "the loss has run away" in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/claim/checkpoints"), Reason.STORAGE_UNSUITABLE),
        (OSError(errno.ENOSPC, "No space left on device"), Reason.STORAGE_FULL),
        (RuntimeError("CUDA error: unspecified launch failure"), Reason.DEVICE_LOST),
        (RuntimeError("CUDA error: the launch timed out and was terminated"), Reason.DEVICE_LOST),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Reason.DEVICE_LOST),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), Reason.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Reason.OUT_OF_MEMORY),
        (RuntimeError("shapes differ"), Reason.TRAINER_CRASHED),
    ],
)
def test_what_a_device_or_a_volume_says_becomes_its_reason(error: Exception, reason: Reason) -> None:
    failure = failure_of(error)
    assert failure.reason == reason
    assert str(error).split("'")[0].strip() in failure.message or reason is Reason.STORAGE_UNSUITABLE


def test_a_checkpoint_that_does_not_fit_the_model_is_told_and_not_half_taken(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.training import train_state
    from finetune_trainer.training.reporter import StepReporter

    config, told = make_config(tmp_path, training=LEARNING), StepReporter.step

    def stop(self: Any, entry: Any, total: int) -> None:
        told(self, entry, total)
        if entry.step == 5:
            raise StageError(Reason.INTERRUPTED, "stopped")

    monkeypatch.setattr(StepReporter, "step", stop)
    refusal(lambda: run(config), Reason.INTERRUPTED)
    monkeypatch.setattr(StepReporter, "step", told)
    trained = train_state.trained
    monkeypatch.setattr(train_state, "trained", lambda model: list(trained(model))[1:])
    text = refusal(lambda: run(config), Reason.INVALID_SPEC)
    assert "checkpoint step-00000004 does not fit the model: 1 weights are only in one of checkpoint and model" in text


def stepped(optimizer: Callable[..., Any]) -> tuple[Any, Any]:
    """A model of one layer after a step, and its optimizer."""
    import torch

    model = torch.nn.Linear(2, 2)
    made = optimizer(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    made.step()
    return model, made


def test_a_run_that_began_in_bfloat16_goes_on_where_gradients_are_scaled_for_float16() -> None:
    import torch

    from finetune_trainer.training import train_state

    model, optimizer = stepped(torch.optim.AdamW)
    saved = train_state.gather(model, optimizer, None)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    train_state.restore(saved, model, optimizer, scaler)
    assert scaler.state_dict()["scale"] == 4.0
    halved = {**scaler.state_dict(), "scale": 2.0}
    saved.values["scaler"] = halved
    train_state.restore(saved, model, optimizer, scaler)
    assert scaler.state_dict()["scale"] == 2.0


def test_a_checkpoint_with_another_optimizers_moments_is_told_before_the_first_step() -> None:
    """Of a local run whose file asks for no GPU any more: gpusPerNode is no part of the digest."""
    import bitsandbytes
    import torch

    from finetune_trainer.training import train_state

    model, optimizer = stepped(torch.optim.AdamW)
    saved, other = train_state.gather(model, optimizer, None), bitsandbytes.optim.AdamW8bit(model.parameters())
    with pytest.raises(ValueError, match="moments are those of an optimizer of torch, and the run has one of bitsandb"):
        train_state.restore(saved, model, other, None)
