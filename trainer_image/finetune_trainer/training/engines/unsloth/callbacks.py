"""Carries a StepReporter into the Trainer. Import it after Unsloth, which patches transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from finetune_trainer.training.reporter import LoggedStep, StepReporter


class ReportingCallback(TrainerCallback):  # type: ignore[misc]
    """Calls the reporter at each step and each logged loss."""

    def __init__(self, reporter: StepReporter) -> None:
        self.reporter = reporter

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reporter.begin(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self._progress(state)
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last loss belongs into the result, whatever loggingSteps is
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            entry = LoggedStep(state.global_step, float(logs["loss"]), float(logs["learning_rate"]))
            self.reporter.log(entry, state.max_steps, state.epoch or 0.0, state.num_input_tokens_seen)
            self._progress(state)

    def _progress(self, state: Any) -> None:
        self.reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0, state.num_input_tokens_seen)
