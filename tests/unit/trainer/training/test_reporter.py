"""What is told of a training step by step: console, gateway, metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_api.progress import ProgressPush, progress_of
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.training.reporter import LoggedStep, StepReporter


def logged(step: int, loss: float = 0.75, norm: float | None = 1.5, reserved: int | None = None) -> LoggedStep:
    return LoggedStep(step, 0.5, loss, 1e-4, norm, tokens=100, reserved_bytes=reserved)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_stands_in_the_file(tmp_path: Path, loss: float) -> None:
    reporter = StepReporter(None, tmp_path / "metrics.jsonl")
    with pytest.raises(StageError, match="at step 4 of 10") as caught:
        reporter.log(logged(4, loss), 10)
    assert caught.value.reason is Reason.LOSS_DIVERGED
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["loss"] == str(loss)


def test_a_loss_of_exactly_zero_ends_the_run_and_a_small_one_does_not(tmp_path: Path) -> None:
    reporter = StepReporter(None, tmp_path / "metrics.jsonl")
    reporter.log(logged(3, 1e-9), 10)
    with pytest.raises(StageError, match="the loss is exactly zero at step 4 of 10") as caught:
        reporter.log(logged(4, 0.0), 10)
    assert caught.value.reason is Reason.LOSS_DIVERGED
    assert "check what the loss sees" in (caught.value.advice or "")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_reporter_pushes_the_newest_loss_with_the_step() -> None:
    sent: list[ProgressPush] = []
    pusher = ProgressPusher(sent.append, interval_seconds=0)
    reporter = StepReporter(pusher)
    reporter.log(logged(2), 10)
    reporter.progress(2, 10, 0.5, 100)
    pusher.close(30)
    status = progress_of(sent[-1], "Train", "pod")
    assert (status.step, status.loss, status.epoch) == (2, "0.75", "0.5")
    assert status.tokens_per_second is not None


def test_an_attempt_says_at_once_where_it_starts_with_nothing_of_the_one_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent: list[ProgressPush] = []
    pusher = ProgressPusher(sent.append, interval_seconds=0)
    StepReporter(pusher).begin(0, 40)
    pusher.close(30)
    status = progress_of(sent[0], "Train", "pod")
    assert (status.step, status.total_steps, status.percent) == (0, 40, 0)
    assert (status.loss, status.tokens_per_second, status.remaining_seconds) == (None, None, None)
    assert "training starts at step 0 of 40" in capsys.readouterr().out


def test_each_logged_step_is_a_line_on_disk_at_once_and_a_new_attempt_starts_the_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    reporter = StepReporter(None, file)
    reporter.begin(0, 10)
    assert not file.exists()
    for step in (1, 5):
        reporter.log(logged(step, reserved=7), 10)
        assert len(file.read_text().splitlines()) == (1 if step == 1 else 2)
    line = json.loads(file.read_text().splitlines()[1])
    assert line.pop("tokensPerSecond") > 0
    assert line == {
        "step": 5,
        "epoch": 0.5,
        "loss": 0.75,
        "learningRate": 1e-4,
        "gradientNorm": 1.5,
        "reservedBytes": 7,
    }
    reporter.log(logged(6, norm=None), 10)
    assert "gradientNorm" not in file.read_text().splitlines()[2]  # what isn't known is absent, never null
    assert "reservedBytes" not in file.read_text().splitlines()[2]
    StepReporter(None, file).begin(0, 10)
    assert not file.exists()
