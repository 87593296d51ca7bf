"""What is told of a training step by step: console, gateway, metrics.jsonl."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from finetune_api.progress import ProgressPush, progress_of
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.progress import Pace, ProgressPusher
from finetune_trainer.training.reporter import LoggedStep, StepReporter
from finetune_trainer.training.stopping import Measured


def logged(step: int, loss: float = 0.75, norm: float | None = 1.5, reserved: int | None = None) -> LoggedStep:
    return LoggedStep(step, 0.5, loss, 1e-4, norm, tokens=100, reserved_bytes=reserved, seconds=0.25)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_stands_in_the_file(tmp_path: Path, loss: float) -> None:
    reporter = StepReporter(None, tmp_path / "metrics.jsonl")
    with pytest.raises(StageError, match="at step 4 of 10") as caught:
        reporter.step(logged(4, loss), 10)
    assert caught.value.reason is Reason.LOSS_DIVERGED
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["loss"] == str(loss)


def test_a_loss_that_is_no_number_before_any_update_is_not_laid_to_the_learning_rate() -> None:
    for step, advice in ((1, "check the weights of the base model"), (2, "lower learningRate")):
        with pytest.raises(StageError) as caught:
            StepReporter(None).step(logged(step, float("nan")), 10)
        assert advice in caught.value.advice


def test_a_gradient_that_is_no_number_ends_the_run_and_one_of_a_step_that_was_skipped_does_not(tmp_path: Path) -> None:
    reporter = StepReporter(None, tmp_path / "metrics.jsonl")
    reporter.step(logged(3, norm=None), 10)
    with pytest.raises(StageError, match="the gradient is inf at step 4 of 10") as caught:
        reporter.step(logged(4, norm=float("inf")), 10)
    assert caught.value.reason is Reason.LOSS_DIVERGED
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])["gradientNorm"] == "inf"


def test_a_loss_of_exactly_zero_ends_the_run_and_a_small_one_does_not(tmp_path: Path) -> None:
    reporter = StepReporter(None, tmp_path / "metrics.jsonl")
    reporter.step(logged(3, 1e-9), 10)
    with pytest.raises(StageError, match="the loss is exactly zero at step 4 of 10") as caught:
        reporter.step(logged(4, 0.0), 10)
    assert caught.value.reason is Reason.LOSS_DIVERGED
    assert "check what the loss sees" in (caught.value.advice or "")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_reporter_pushes_the_newest_loss_with_the_step() -> None:
    sent: list[ProgressPush] = []
    pusher = ProgressPusher(sent.append, interval_seconds=0)
    reporter = StepReporter(pusher)
    reporter.step(logged(2), 10)
    reporter.progress(2, 10, 0.5, 100)
    pusher.close(30)
    status = progress_of(sent[-1], "Train", "pod")
    assert (status.step, status.loss, status.epoch) == (2, "0.75", "0.5")
    assert status.tokens_per_second is not None


def test_rows_that_are_measured_before_the_first_step_take_none_of_its_time() -> None:
    reporter = StepReporter(None)
    reporter.begin(0, 10)
    reporter.pace = Pace(0, time.monotonic() - 3600)
    reporter.measured(Measured(0, 2.5), 10)
    remaining = reporter.pace.remaining_seconds(1, 10)
    assert remaining is not None
    assert remaining < 60
    reporter.pace = Pace(0, time.monotonic() - 3600)
    reporter.measured(Measured(5, 2.5), 10)  # on the way they count, as they will again
    assert reporter.pace.elapsed_seconds() >= 3600


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


def test_each_step_is_a_line_on_disk_at_once_and_a_new_attempt_starts_the_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    reporter = StepReporter(None, file)
    reporter.begin(0, 10)
    assert not file.exists()
    for step in (1, 5):
        reporter.step(logged(step, reserved=7), 10)
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
        "stepSeconds": 0.25,
    }
    reporter.step(logged(6, norm=None), 10)
    assert "gradientNorm" not in file.read_text().splitlines()[2]  # what isn't known is absent, never null
    assert "reservedBytes" not in file.read_text().splitlines()[2]
    StepReporter(None, file).begin(0, 10)
    assert not file.exists()


def test_an_attempt_that_goes_on_keeps_the_lines_of_steps_that_it_will_not_take_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    first = StepReporter(None, file)
    first.begin(0, 10)
    for step in (1, 2, 3, 4):
        first.step(logged(step), 10)
    first.close()
    with file.open("a") as cut:
        cut.write('{"step": 5, "loss": 0.')  # a kill in the middle of a line
    second = StepReporter(None, file)
    second.begin(2, 10)
    second.step(logged(3, 0.5), 10)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.75), (2, 0.75), (3, 0.5)]


def test_what_an_attempt_measures_again_stands_in_the_file_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for measures in (False, True, True):  # stopped while it measured, and killed before the checkpoint after that
        attempt = StepReporter(None, file)
        attempt.begin(2 if measures else 0, 4, measures=measures)
        for step in (3,) if measures else (1, 2):
            if step == 3:
                attempt.measured(Measured(2, 0.5), 4)
            attempt.step(logged(step), 4)
            if step == 1:
                attempt.measured(Measured(1, 1.0), 4)
        attempt.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(line["step"], "loss" if "loss" in line else "measured") for line in lines]
    assert told == [(1, "loss"), (1, "measured"), (2, "loss"), (2, "measured"), (3, "loss")]


def test_an_attempt_that_begins_with_measuring_does_not_count_it_into_the_time_of_its_steps() -> None:
    reporter = StepReporter(None)
    reporter.begin(2, 4, measures=True)
    begun = reporter.pace
    reporter.measured(Measured(2, 0.5), 4)
    assert reporter.pace is not begun
    assert reporter.pace.remaining_seconds(3, 4) is not None  # steps are still counted from this attempt's first
    begun = reporter.pace
    reporter.measured(Measured(3, 0.5), 4)
    assert reporter.pace is begun


def test_a_logged_loss_is_the_mean_since_the_last_one_logged_also_over_a_restart(tmp_path: Path) -> None:
    losses = [4.0, 3.0, 2.0, 1.0, 0.5, 0.25]
    whole, first, second = (StepReporter(None, logging_steps=4) for _ in range(3))
    whole.begin(0, 6)
    first.begin(0, 6)
    for step, loss in enumerate(losses, 1):
        whole.step(logged(step, loss), 6)
    for step, loss in enumerate(losses[:3], 1):
        first.step(logged(step, loss), 6)
    second.go_on(first.history, first.unlogged)
    second.begin(3, 6)
    for step, loss in enumerate(losses[3:], 4):
        second.step(logged(step, loss), 6)
    assert [(entry.step, entry.loss) for entry in whole.history] == [(1, 4.0), (4, 2.0), (6, 0.375)]
    assert second.history == whole.history


def run_through(losses: list[float], batch_size: int = 8, metrics: Path | None = None, first: int = 0) -> None:
    reporter = StepReporter(None, metrics, batch_size=batch_size)
    reporter.begin(first, len(losses))
    for step, loss in enumerate(losses[first:], first + 1):
        reporter.step(logged(step, loss), len(losses))
    reporter.close()


def test_a_loss_that_runs_away_ends_the_run_and_says_from_where() -> None:
    with pytest.raises(StageError, match=r"run away: 6 is the median .* step 25 of 60, after 1\.2 before") as caught:
        run_through([2.0] * 10 + [1.2] * 10 + [6.0] * 40)
    assert caught.value.reason is Reason.LOSS_DIVERGED


@pytest.mark.parametrize("killed_after", [5, 15, 21, 24])
def test_a_loss_runs_away_at_the_same_step_when_the_run_was_killed_on_the_way(
    tmp_path: Path, killed_after: int
) -> None:
    losses = [2.0] * 10 + [1.2] * 10 + [6.0] * 40
    run_through(losses[:killed_after], metrics=tmp_path / "metrics.jsonl")
    with pytest.raises(StageError, match=r"run away: 6 is the median .* step 25 of 60, after 1\.2 before"):
        run_through(losses, metrics=tmp_path / "metrics.jsonl", first=killed_after)


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 10 + [9.0] * 4 + [2.0] * 30,  # a few bad batches
        [0.01] * 30 + [1.5] * 30,  # a small loss that grows is no run-away yet
        [2.5, 1.5] * 30,
        [11.0 - step / 10 for step in range(60)],
    ],
)
def test_a_loss_that_jumps_or_falls_goes_on(losses: list[float]) -> None:
    run_through(losses)


def test_small_batches_are_judged_by_as_many_examples_as_large_ones() -> None:
    run_through([1.0] * 64 + [5.0] * 31 + [1.0] * 64, batch_size=1)
    with pytest.raises(StageError, match="median of the 64 steps"):
        run_through([1.0] * 64 + [5.0] * 64, batch_size=1)
