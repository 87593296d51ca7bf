"""Follows the training step by step: console, progress, metrics.jsonl, and an end when the loss runs away."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

from finetune_api.base import number
from finetune_api.reasons import Reason
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.progress import Pace, ProgressPusher, make_push
from finetune_trainer.training.stopping import Measured

# A run has diverged when the median loss of its last examples is so much above the lowest median that it had. Single
# steps jump: medians of 64 examples, of 8 steps at least, don't.
_SPIKE_NATS, _SPIKE_FACTOR = 2.0, 1.5
_SPIKE_EXAMPLES, _SPIKE_STEPS = 64, 8
_UNTRAINED = "no rate explains the loss before any update: check the weights of the base model, or use dtype BFloat16"


@dataclass(frozen=True)
class LoggedStep:
    """One step, or a logged one: then its loss is the mean over the steps since the last one logged."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None  # of this step, before clipping; None where gradients overflowed in float16
    tokens: int  # through the model since the start, padding left out
    reserved_bytes: int | None  # GPU memory reserved now; None on a CPU
    seconds: float = 0.0  # that this step took
    penalty: float | None = None  # beside the loss


class Trackers:
    """Records of other tools, none here; see finetune_trainer.training.tracking."""

    lost: Sequence[str] = ()  # what is to be told of those that failed

    def begin(self, total: int) -> None:
        """Opens them; ``total`` steps are planned."""

    def step(self, entry: LoggedStep) -> None:
        """One step."""

    def measured(self, point: Measured) -> None:
        """A point at which rows were measured that are not trained on."""

    def close(self, error: BaseException | None = None) -> None:
        """Closes them; ``error`` is what ended the training before its time."""


@dataclass
class StepReporter:
    """Collects steps and tells console, status gateway and file. Without a gateway ``pusher`` is None."""

    pusher: ProgressPusher | None
    metrics: Path | None = None
    logging_steps: int = 1
    batch_size: int = 1
    history: list[LoggedStep] = field(default_factory=list)  # logged steps, also of earlier attempts
    trackers: Trackers = field(default_factory=Trackers)
    pace: Pace = field(default_factory=lambda: Pace(0))
    _file: IO[str] | None = None
    _unlogged: list[float] = field(default_factory=list)
    _first_step: int = 0  # of this attempt
    _tokens_before: int = 0  # of earlier attempts
    _recent: deque[float] = field(default_factory=deque)
    _lowest: float = math.inf

    def begin(self, first_step: int, total: int, tokens: int = 0, measures: bool = False) -> None:
        """Starts the clock with the first step of this attempt; ``measures``: before it, rows are measured.

        What an attempt before it told of later steps is void: these are taken again. So is what it measured here.
        """
        self.pace, self._first_step = Pace(first_step), first_step
        self._tokens_before = tokens
        self._recent = deque(maxlen=max(_SPIKE_STEPS, -(-_SPIKE_EXAMPLES // self.batch_size)))
        for loss in _keep_lines(self.metrics, first_step, measures) if self.metrics else []:
            self._median_with(loss)
        say(f"training starts at step {first_step} of {total}")
        self.trackers.begin(total)
        self.progress(first_step, total, 0.0, 0)

    def step(self, entry: LoggedStep, total: int) -> None:
        """Tells of a step. Raises StageError (LossDiverged) for a loss or gradient that is no number, or a bad loss."""
        speed = self._speed(entry.tokens)
        self._append(entry, speed)
        self.trackers.step(entry)
        self._check(entry, total)
        self._unlogged.append(entry.loss)
        if entry.step == 1 or entry.step % self.logging_steps == 0 or entry.step == total:
            logged = replace(entry, loss=statistics.fmean(self._unlogged))
            self._unlogged.clear()
            self.history.append(logged)
            norm = "" if entry.gradient_norm is None else f"gradient {entry.gradient_norm:.3g}  "
            say(
                f"step {entry.step}/{total}  loss {logged.loss:.4f}  {norm}lr {entry.learning_rate:.3g}  "
                f"epoch {entry.epoch:.2f}  {speed:.0f} tokens/s"
            )
        self.progress(entry.step, total, entry.epoch, entry.tokens)

    def measured(self, point: Measured, total: int) -> None:
        """Tells of rows that are not trained on. Before the attempt's first step they take none of its time."""
        if point.step == self._first_step:
            self.pace = Pace(point.step)
        told = {"validationLoss": point.validation_loss, "retentionPerplexity": point.perplexity}
        self._write({"step": point.step, **{name: _json_number(value) for name, value in told.items()}})
        self.trackers.measured(point)
        words = {"validation loss": point.validation_loss, "retention perplexity": point.perplexity}
        said = ", ".join(f"{name} {value:.4f}" for name, value in words.items() if value is not None)
        say(f"step {point.step}/{total}  {said}")

    @property
    def unlogged(self) -> list[float]:
        """Losses of the steps since the last one logged."""
        return list(self._unlogged)

    def go_on(self, history: list[LoggedStep], unlogged: list[float]) -> None:
        """Takes over what an earlier attempt logged, and the losses of its steps since."""
        self.history, self._unlogged = list(history), list(unlogged)

    def sync(self) -> None:
        """Brings the file to the disk: what goes on from a checkpoint takes the lines before it as told."""
        if self._file:
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """Closes the file and the trackers; ``error`` is what ended the training before its time."""
        self.trackers.close(error)
        if self._file:
            self._file.close()
            self._file = None

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

    def _check(self, entry: LoggedStep, total: int) -> None:
        if not math.isfinite(entry.loss):
            raise StageError(
                Reason.LOSS_DIVERGED,
                f"the loss is {entry.loss} at step {entry.step} of {total}",
                _UNTRAINED if entry.step == 1 else "",
            )
        if entry.gradient_norm is not None and not math.isfinite(entry.gradient_norm):  # no update comes of it
            raise StageError(
                Reason.LOSS_DIVERGED, f"the gradient is {entry.gradient_norm} at step {entry.step} of {total}"
            )
        if entry.loss == 0.0:  # libraries give zero where the loss sees nothing; rows known by heart don't come to it
            raise StageError(
                Reason.LOSS_DIVERGED,
                f"the loss is exactly zero at step {entry.step} of {total}",
                "check what the loss sees of the row that the log shows; train for fewer steps if the rows are learnt",
            )
        median = self._median_with(entry.loss)
        if median > max(self._lowest + _SPIKE_NATS, self._lowest * _SPIKE_FACTOR):
            raise StageError(
                Reason.LOSS_DIVERGED,
                f"the loss has run away: {median:.3g} is the median of the {len(self._recent)} steps up to step "
                f"{entry.step} of {total}, after {self._lowest:.3g} before",
                "lower learningRate, or lengthen warmupSteps; then apply under a new name",
            )

    def _median_with(self, loss: float) -> float:
        """The median of the newest losses, and their lowest so far; zero while there are too few of them."""
        self._recent.append(loss)
        if len(self._recent) < (self._recent.maxlen or 0):
            return 0.0
        median = statistics.median_low(self._recent)
        self._lowest = min(self._lowest, median)
        return median

    def _speed(self, tokens: int, now: float | None = None) -> float:
        return (tokens - self._tokens_before) / max(self.pace.elapsed_seconds(now), 1e-9)

    def _append(self, entry: LoggedStep, speed: float) -> None:
        """A line for metrics.jsonl. JSON has no NaN: text instead."""
        line: dict[str, Any] = {
            "step": entry.step,
            "epoch": round(entry.epoch, 6),
            "loss": _json_number(entry.loss),
            "learningRate": entry.learning_rate,
            "penalty": _json_number(entry.penalty),
            "gradientNorm": _json_number(entry.gradient_norm),
            "tokensPerSecond": round(speed),
            "stepSeconds": round(entry.seconds, 6),
            "reservedBytes": entry.reserved_bytes,
        }
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        """On its way to the disk before the next step."""
        if not self.metrics:
            return
        if self._file is None:
            self._file = self.metrics.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps({name: value for name, value in line.items() if value is not None}) + "\n")


def _keep_lines(metrics: Path, last_step: int, measured_again: bool) -> list[float]:
    """Leaves a file with the lines up to a step: whole ones, as a kill may have cut the last. Gives their losses.

    ``measured_again``: without what was measured after that step.
    """
    if not last_step:
        metrics.unlink(missing_ok=True)
        return []
    if not metrics.is_file():
        return []
    lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    known = [(line, values) for line in lines if (values := _values_of(line)) and values["step"] <= last_step]
    read = [one for one in known if not measured_again or "loss" in one[1] or one[1]["step"] < last_step]
    write_text(metrics, "".join(f"{line}\n" for line, _ in read))
    return [loss for _, values in read if isinstance(loss := values.get("loss"), float)]


def _values_of(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def _json_number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
