"""What a terminal shows of a stage's progress, made of the pushes that the status gateway gets, too. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from finetune_api.progress import ProgressPush, progress_of
from finetune_api.stages import TRAIN, Stage

# What the counter of a stage counts.
_UNITS = {TRAIN.name: "step"}


@dataclass(frozen=True)
class ProgressLine:
    """The parts of one line. ``total`` is None while nothing is counted yet, as when the model is loaded."""

    title: str
    done: int
    total: int | None
    facts: str


def before_the_first(stage: Stage) -> ProgressLine:
    """What is shown until the stage tells of its first step."""
    return ProgressLine(stage.active, 0, None, "reading and loading")


def read_line(text: str | bytes, stage: Stage) -> ProgressLine | None:
    """What a push shows, of a line of JSON. None for a line that is no push: the one before stays."""
    try:
        push = ProgressPush.model_validate_json(text)
    except ValidationError:
        return None
    return progress_line(push, stage)


def progress_line(push: ProgressPush, stage: Stage) -> ProgressLine:
    """What a push shows: step of total, loss, speed and remaining time, as far as it has them."""
    status = progress_of(push, stage.name, "")
    unit = _UNITS.get(stage.name, "row")
    counted = f"{unit} {status.step:,}/{status.total_steps:,}" if status.total_steps else ""
    # While evaluating, the loss is the training's last: it is for a table of jobs, not news here.
    loss = f"loss {float(status.loss):.4f}" if status.loss and stage is TRAIN else ""
    speed = f"{status.tokens_per_second:,} tokens/s" if status.tokens_per_second else ""
    left = f"{status.remaining} left" if status.remaining and status.step < status.total_steps else ""
    facts = "  ".join(one for one in (counted, loss, speed, left) if one)
    return ProgressLine(stage.active, status.step, status.total_steps or None, facts)
