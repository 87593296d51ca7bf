"""A training that is told to stop in the middle, as by SIGTERM, in this process."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.interruption import INTERRUPTION
from finetune_trainer.training.reporter import StepReporter


def train_until(config: RunConfig, step: int) -> None:
    """Trains, and ends after a step with a checkpoint."""
    from finetune_trainer.training.train import train

    told = StepReporter.step

    def stop(self: Any, entry: Any, total: int) -> None:
        told(self, entry, total)
        if entry.step == step:
            INTERRUPTION.requested = signal.SIGTERM

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StepReporter, "step", stop)
        patched.setattr(INTERRUPTION, "requested", None)
        with pytest.raises(StageError, match=f"stopped by SIGTERM at step {step} of"):
            train(config, None)
