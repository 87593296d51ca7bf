"""The learning rate of each step. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRates:
    """Linear warm-up from zero, then the scheduler's way to the last step, as transformers' schedulers go."""

    scheduler: Literal["Linear", "Cosine", "Constant"]
    peak: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """The rate of the step after ``step`` others. Linear and Cosine would be zero after the last."""
        if step < self.warmup_steps:
            return self.peak * (step / self.warmup_steps)
        left = self.total_steps - self.warmup_steps
        done = (step - self.warmup_steps) / max(1, left)
        if self.scheduler == "Linear":
            return self.peak * max(0.0, 1 - done)
        if self.scheduler == "Cosine":
            return self.peak * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
        return self.peak
