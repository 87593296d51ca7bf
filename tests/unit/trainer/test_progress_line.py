"""What a terminal shows of the pushes that a stage sends."""

from __future__ import annotations

import os
import sys

import pytest

from finetune_api.stages import EVALUATE, TRAIN
from finetune_trainer.local_run import shows_progress
from finetune_trainer.progress_line import ProgressLine, before_the_first, progress_line, read_line
from finetune_trainer.stage.progress import ProgressPusher, line_sender, make_push

METRICS = {"loss": "2.34567", "tokens_per_second": "3100.4", "learning_rate": "0.0002"}


def test_training_shows_step_loss_speed_and_what_is_left() -> None:
    line = progress_line(make_push(1200, 5000, 130.2, METRICS), TRAIN)
    facts = "step 1,200/5,000  loss 2.3457  3,100 tokens/s  2m 10s left"
    assert line == ProgressLine("Training", 1200, 5000, facts)


def test_what_is_not_known_yet_is_left_out() -> None:
    assert progress_line(make_push(0, 40, None, {}), TRAIN) == ProgressLine("Training", 0, 40, "step 0/40")
    assert before_the_first(EVALUATE).total is None


def test_at_the_last_step_nothing_is_left() -> None:
    assert progress_line(make_push(40, 40, 0, {}), TRAIN).facts == "step 40/40"


def test_evaluating_counts_rows_and_does_not_show_the_trainings_loss_as_news() -> None:
    line = progress_line(make_push(12, 24, 3, {"loss": "0.3"}), EVALUATE)
    assert line == ProgressLine("Evaluating", 12, 24, "row 12/24  3s left")


@pytest.mark.parametrize("text", ["", "training starts", '{"trainerStatus": 1}', '{"trainerStatus": {"metrics": '])
def test_a_line_that_is_no_push_shows_nothing(text: str) -> None:
    assert read_line(text, TRAIN) is None


def test_what_a_stage_writes_to_a_descriptor_is_read_again_line_by_line() -> None:
    receiver, sender = os.pipe()
    pusher = ProgressPusher(line_sender(sender), interval_seconds=0)
    pusher.push(1, make_push(1, 4, 3.0, METRICS))
    pusher.close(30)
    os.close(sender)
    with os.fdopen(receiver, "rb") as lines:
        (line,) = lines
    assert read_line(line, TRAIN) == progress_line(make_push(1, 4, 3.0, METRICS), TRAIN)


@pytest.mark.parametrize(
    ("is_terminal", "kind", "shown"),
    [(True, "xterm-256color", True), (True, "dumb", False), (True, None, False), (False, "xterm", False)],
)
def test_progress_is_drawn_on_a_terminal_that_can_only(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: str | None, shown: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.delenv("TERM", raising=False)
    if kind is not None:
        monkeypatch.setenv("TERM", kind)
    assert shows_progress() is shown
