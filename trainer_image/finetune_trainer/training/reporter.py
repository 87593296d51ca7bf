"""Follows the training step by step: console lines, progress, and an end when the loss is no number."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from finetune_api.base import number
from finetune_api.reasons import Reason
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.progress import Pace, ProgressPusher, make_push


@dataclass(frozen=True)
class LoggedStep:
    """A loss as the trainer logged it: the mean over the steps since the last one logged."""

    step: int
    loss: float
    learning_rate: float


@dataclass
class StepReporter:
    """Collects the losses and tells console and status gateway. ``pusher`` is None without a gateway."""

    pusher: ProgressPusher | None
    history: list[LoggedStep] = field(default_factory=list)
    pace: Pace = field(default_factory=lambda: Pace(0))

    def begin(self, first_step: int) -> None:
        """Starts the clock with the first step of this attempt."""
        self.pace = Pace(first_step)

    def log(self, entry: LoggedStep, total: int, epoch: float, tokens: int) -> None:
        """Prints a logged step. Raises StageError (LossDiverged) when its loss is not finite."""
        if not math.isfinite(entry.loss):
            raise StageError(Reason.LOSS_DIVERGED, f"the loss is {entry.loss} at step {entry.step} of {total}")
        self.history.append(entry)
        speed = tokens / max(self.pace.elapsed_seconds(), 1e-9)
        say(
            f"step {entry.step}/{total}  loss {entry.loss:.4f}  lr {entry.learning_rate:.3g}  "
            f"epoch {epoch:.2f}  {speed:.0f} tokens/s"
        )

    def progress(self, step: int, total: int, epoch: float, tokens: int) -> None:
        """Leaves the newest state for the gateway."""
        if not self.pusher:
            return
        now = time.monotonic()
        metrics = {"current_epoch": number(epoch, 4)}
        if self.history:
            last = self.history[-1]
            metrics |= {"loss": number(last.loss), "learning_rate": number(last.learning_rate)}
        metrics["tokens_per_second"] = str(round(tokens / max(self.pace.elapsed_seconds(now), 1e-9)))
        self.pusher.push(step, make_push(step, total, self.pace.remaining_seconds(step, total, now), metrics))
