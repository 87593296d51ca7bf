"""The steps of a run, from where the last checkpoint stands to the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from finetune_api.reasons import Reason
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError, first_line
from finetune_trainer.stage.interruption import Interruption
from finetune_trainer.training.batches import Batches, padded
from finetune_trainer.training.checkpoints import Checkpoint, Checkpoints, CheckpointState, SavedPlan
from finetune_trainer.training.engines.base import Stepper
from finetune_trainer.training.reporter import LoggedStep, StepReporter
from finetune_trainer.training.schedule import LearningRates
from finetune_trainer.training.stopping import Measured, Stopping

# Where the spec doesn't say how often: saving may take this share of the time, and is not done more often than this.
_SAVING_SHARE = 0.05
_SAVING_SECONDS = 30.0


@dataclass(frozen=True)
class Trained:
    """What the steps came to, over all attempts."""

    steps: int
    measured: list[Measured]
    best: Measured | None  # whose weights the model has now, with early stopping
    stopped_early: bool
    tokens: int  # through the model, padding left out
    computed_tokens: int  # padding with them
    seconds: float
    micro_batch: int  # smaller than planned where memory ran out
    memory_retries: int  # how often that was, over all attempts
    resumed_from: int  # the step that this attempt began at

    @property
    def padding(self) -> float:
        """Share of all that was computed."""
        return 1 - self.tokens / max(1, self.computed_tokens)


@dataclass(frozen=True)
class Measuring:
    """Rows that are not trained on, and how often their loss is asked for."""

    validation: TokenStore | None
    retention: TokenStore | None
    every_steps: int
    stopping: Stopping | None


@dataclass
class Run:
    """The steps of a run, and all that they need."""

    stepper: Stepper
    batches: Batches
    rates: LearningRates
    plan: SavedPlan
    checkpoints: Checkpoints
    every_steps: int | None  # between checkpoints; None: as the time that saving takes allows
    reporter: StepReporter
    interruption: Interruption
    confirm: Callable[[], None]  # raises when another writer took the folder over
    measuring: Measuring | None = None
    reserved_bytes: Callable[[], int | None] = lambda: None
    clock: Callable[[], float] = time.monotonic

    def take_steps(self, found: Checkpoint | None) -> Trained:
        """All steps that are left.

        Raises StageError: Interrupted when told to stop, with a checkpoint of the last step; LossDiverged, InvalidSpec
        as reporter and batches do. OSError when a checkpoint can't be written.
        """
        total = self.rates.total_steps
        state = self._restore(found)
        first = state.step
        saved_step, saved_at, saving = first, self.clock(), 0.0
        self.reporter.begin(first, total, state.tokens, self._is_unmeasured(state))
        stopped = False
        with self.reporter, self.interruption.put_off(), self._naming_checkpoint():
            if self._is_unmeasured(state):
                state = self._measure(state, saved_step)
            for step in range(first, total):
                self._stop_if_told(state, saved_step)
                if stopped := self._is_exhausted(state):
                    say(f"stopped early: {self._stopping.words() if self._stopping else ''}")
                    break
                state = self._step(step, state, self.clock())
                best_before = state.best_step
                if self._is_unmeasured(state):
                    state = self._measure(state, saved_step)
                now = self.clock()
                if state.best_step != best_before or self._is_due(step + 1, now - saved_at, saving):
                    self._save(state)
                    saved_step, saved_at = step + 1, self.clock()
                    saving = saved_at - now
        best = self._reload_best(state)
        return Trained(
            steps=state.step,
            measured=state.measured,
            best=best,
            stopped_early=stopped,
            tokens=state.tokens,
            computed_tokens=state.computed_tokens,
            seconds=state.seconds,
            micro_batch=self.stepper.micro_batch,
            memory_retries=state.memory_retries,
            resumed_from=first,
        )

    @contextmanager
    def _naming_checkpoint(self) -> Iterator[None]:
        """A run that diverges says where it was still well."""
        try:
            yield
        except StageError as error:
            last = self.checkpoints.newest_step()
            if error.reason is not Reason.LOSS_DIVERGED or last is None:
                raise
            text = f"{error}; the last good checkpoint is of step {last}"
            raise StageError(error.reason, text, error.advice) from error

    def _step(self, step: int, before: CheckpointState, started: float) -> CheckpointState:
        batch = self.batches.batch(step)
        computed, retries, rate = self.stepper.computed_tokens, self.stepper.memory_retries, self.rates.at(step)
        outcome = self.stepper.step(batch, rate)
        seconds = self.clock() - started
        tokens = before.tokens + int(batch["attention_mask"].sum())
        entry = LoggedStep(
            step=step + 1,
            epoch=self.batches.epochs(step + 1),
            loss=outcome.loss,
            learning_rate=rate,
            gradient_norm=outcome.gradient_norm,
            tokens=tokens,
            reserved_bytes=self.reserved_bytes(),
            seconds=seconds,
            penalty=outcome.penalty,
        )
        self.reporter.step(entry, self.rates.total_steps)
        return before.model_copy(
            update={
                "step": step + 1,
                "tokens": tokens,
                "computed_tokens": before.computed_tokens + self.stepper.computed_tokens - computed,
                "seconds": before.seconds + seconds,
                "memory_retries": before.memory_retries + self.stepper.memory_retries - retries,
                "plan": self.plan.model_copy(update={"micro_batch": self.stepper.micro_batch}),
            }
        )

    @property
    def _stopping(self) -> Stopping | None:
        return self.measuring.stopping if self.measuring else None

    def _is_exhausted(self, state: CheckpointState) -> bool:
        return self._stopping is not None and self._stopping.is_exhausted(state.measured)

    def _is_unmeasured(self, state: CheckpointState) -> bool:
        """Whether it is time to measure; after a stop in the middle of it, the next attempt begins with it."""
        measuring, step = self.measuring, state.step
        if measuring is None or any(point.step == step for point in state.measured):
            return False
        return step % measuring.every_steps == 0 or step == self.rates.total_steps

    def _measure(self, state: CheckpointState, saved_step: int) -> CheckpointState:
        """The state with what its weights come to on rows that are not trained on."""
        measuring = self.measuring
        assert measuring
        losses = [
            self._loss(rows, lambda: self._stop_if_told(state, saved_step)) if rows else None
            for rows in (measuring.validation, measuring.retention)
        ]
        point = Measured(state.step, *losses)
        self.reporter.measured(point, self.rates.total_steps)
        points = [*state.measured, point]
        best = measuring.stopping.best(points) if measuring.stopping else None
        return state.model_copy(update={"measured": points, "best_step": best.step if best else None})

    def _loss(self, rows: TokenStore, between: Callable[[], None]) -> float:
        """Mean over the label tokens of rows, longest first so that batches hold little padding."""
        order = np.argsort(-rows.lengths, kind="stable").tolist()
        total, count = 0.0, 0
        for start in range(0, len(order), self.batches.size):
            between()
            some = [rows[place] for place in order[start : start + self.batches.size]]
            found, tokens = self.stepper.loss(padded(some, self.batches.pad_id))
            total, count = total + found, count + tokens
        return total / max(1, count)

    def _reload_best(self, state: CheckpointState) -> Measured | None:
        """Gives the model the weights of the best evaluation, as they were to the bit."""
        best = self._stopping.best(state.measured) if self._stopping else None
        if best is None or best.step == state.step:
            return best
        found = self.checkpoints.read(best.step)
        if found is None:
            raise StageError(
                Reason.TRAINER_CRASHED, f"the checkpoint of step {best.step}, the best of the run, is gone or damaged"
            )
        self.stepper.restore_weights(found.stepper_state())
        say(f"the weights are those of step {best.step}, with validation loss {best.validation_loss:.4f}")
        return best

    def _is_due(self, step: int, since: float, saving: float) -> bool:
        if step == self.rates.total_steps:  # what follows may be killed, too
            return since >= _SAVING_SECONDS
        if self.every_steps:
            return step % self.every_steps == 0
        return since >= max(_SAVING_SECONDS, saving / _SAVING_SHARE)

    def _restore(self, found: Checkpoint | None) -> CheckpointState:
        self.checkpoints.remove_drafts()
        if found:
            try:
                self.stepper.restore(found.stepper_state())
            except ValueError as error:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"checkpoint {found.path.name} does not fit the model: {first_line(error)}",
                    "remove the checkpoints of the run's folder: the run then begins anew",
                ) from error
            self.reporter.go_on(found.state.history, found.state.unlogged)
            say(f"going on from checkpoint {found.path.name}")
            return found.state
        return CheckpointState(identity=self.checkpoints.identity, step=0, plan=self.plan)

    def _save(self, state: CheckpointState) -> None:
        self.confirm()
        self.reporter.sync()
        update = {"history": self.reporter.history, "unlogged": self.reporter.unlogged}
        self.checkpoints.write(state.model_copy(update=update), self.stepper.state())

    def _stop_if_told(self, state: CheckpointState, saved_step: int) -> None:
        if not self.interruption.requested:
            return
        if state.step > saved_step:
            self._save(state)
        done = f"stopped by {self.interruption.requested.name} at step {state.step} of {self.rates.total_steps}"
        raise StageError(Reason.INTERRUPTED, done, "the next attempt goes on from there")
