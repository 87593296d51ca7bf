"""Follows the training step by step: console, progress, metrics.jsonl, and an end when the loss is no number."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from finetune_api.base import number
from finetune_api.reasons import Reason
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.progress import Pace, ProgressPusher, make_push


@dataclass(frozen=True)
class LoggedStep:
    """What the engine logged: the loss is the mean over the steps since the last one logged."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None  # of this step, before clipping; None where gradients overflowed in 16 bit
    tokens: int  # through the model since the start
    reserved_bytes: int | None  # GPU memory reserved now; None on a CPU


@dataclass
class StepReporter:
    """Collects logged steps and tells console, status gateway and file. Without a gateway ``pusher`` is None."""

    pusher: ProgressPusher | None
    metrics: Path | None = None
    history: list[LoggedStep] = field(default_factory=list)
    pace: Pace = field(default_factory=lambda: Pace(0))

    def begin(self, first_step: int, total: int) -> None:
        """Starts the clock with the first step of this attempt; what an earlier one told and logged is void."""
        self.pace = Pace(first_step)
        if self.metrics:
            self.metrics.unlink(missing_ok=True)
        say(f"training starts at step {first_step} of {total}")
        self.progress(first_step, total, 0.0, 0)

    def log(self, entry: LoggedStep, total: int) -> None:
        """Prints and keeps a logged step. Raises StageError (LossDiverged) when its loss is not finite, or zero."""
        speed = self._speed(entry.tokens)
        self._append(entry, speed)
        if not math.isfinite(entry.loss):
            raise StageError(Reason.LOSS_DIVERGED, f"the loss is {entry.loss} at step {entry.step} of {total}")
        if entry.loss == 0.0:  # libraries give zero where the loss sees nothing; rows known by heart don't come to it
            raise StageError(
                Reason.LOSS_DIVERGED,
                f"the loss is exactly zero at step {entry.step} of {total}",
                "check what the loss sees of the row that the log shows; train for fewer steps if the rows are learnt",
            )
        self.history.append(entry)
        norm = "" if entry.gradient_norm is None else f"gradient {entry.gradient_norm:.3g}  "
        say(
            f"step {entry.step}/{total}  loss {entry.loss:.4f}  {norm}lr {entry.learning_rate:.3g}  "
            f"epoch {entry.epoch:.2f}  {speed:.0f} tokens/s"
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
        if tokens:
            metrics["tokens_per_second"] = str(round(self._speed(tokens, now)))
        self.pusher.push(step, make_push(step, total, self.pace.remaining_seconds(step, total, now), metrics))

    def _speed(self, tokens: int, now: float | None = None) -> float:
        return tokens / max(self.pace.elapsed_seconds(now), 1e-9)

    def _append(self, entry: LoggedStep, speed: float) -> None:
        """A line for metrics.jsonl, on its way to the disk before the next step. JSON has no NaN: text instead."""
        if not self.metrics:
            return
        line = {
            "step": entry.step,
            "epoch": round(entry.epoch, 6),
            "loss": _json_number(entry.loss),
            "learningRate": entry.learning_rate,
            "gradientNorm": _json_number(entry.gradient_norm),
            "tokensPerSecond": round(speed),
            "reservedBytes": entry.reserved_bytes,
        }
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: value for name, value in line.items() if value is not None}) + "\n")


def _json_number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
