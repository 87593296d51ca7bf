"""Carries a StepReporter into the Trainer. Import it after Unsloth, which patches transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from finetune_trainer.training.reporter import LoggedStep, StepReporter


class ReportingCallback(TrainerCallback):  # type: ignore[misc]
    """Calls the reporter at each step and each logged loss."""

    def __init__(self, reporter: StepReporter) -> None:
        self.reporter = reporter

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reporter.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self._progress(state)
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last loss belongs into the result, whatever loggingSteps is
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            norm = logs.get("grad_norm")
            entry = LoggedStep(
                step=state.global_step,
                epoch=state.epoch or 0.0,
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                gradient_norm=None if norm is None else float(norm),
                tokens=int(state.num_input_tokens_seen),
                reserved_bytes=torch.cuda.memory_reserved() if torch.cuda.is_available() else None,
            )
            self.reporter.log(entry, state.max_steps)
            self._progress(state)

    def _progress(self, state: Any) -> None:
        self.reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0, int(state.num_input_tokens_seen))
