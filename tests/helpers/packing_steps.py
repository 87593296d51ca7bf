"""The same rows trained on unpacked and packed, timed step by step: for tests/bench on a CPU and tests/gpu on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.engines.base import StepSettings
from finetune_trainer.training.packing import Layout, Proof
from finetune_trainer.training.plan import StepPlan
from finetune_trainer.training.reporter import LoggedStep, StepReporter
from trainer_inputs import run_config
from training_steps import steps_of

# Tokens of a row at these shares of all rows: of 1,272 medical exam questions with four options in SmolLM2's tokens,
# mean 272.
EXAM = ((0, 101), (0.05, 160), (0.25, 216), (0.5, 259), (0.75, 313), (0.95, 429), (1, 702))
RESPONSE = 10  # tokens that the loss sees of a row


def exam_rows(count: int, vocabulary: int, scale: float = 1.0, spread: float = 1.0) -> TokenStore:
    """Rows of random tokens in an exam's lengths, times ``scale``; the loss sees the last ten of each.

    ``spread`` moves lengths away from their mean, or towards it: 0 makes them equal.
    """
    draw = np.random.default_rng(5)
    shares, tokens = zip(*EXAM, strict=True)
    found = np.interp(draw.random(count), shares, tokens) * scale
    lengths = (found.mean() + spread * (found - found.mean())).astype(int)
    rows = []
    for length in lengths:
        ids = draw.integers(3, vocabulary, max(length, RESPONSE + 2)).tolist()
        rows.append(TokenRow(ids, [IGNORED] * (len(ids) - RESPONSE) + ids[-RESPONSE:]))
    return TokenStore.of(rows)


@dataclass
class Stopwatch(StepReporter):
    """Notes when each step was logged, by the clock and by this process's CPU time."""

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def step(self, entry: LoggedStep, total: int) -> None:
        super().step(entry, total)  # its loss was read: the device is done with the step
        self.clock.append(time.monotonic())
        self.cpu.append(time.process_time())


@dataclass(frozen=True)
class Measured:
    """A run of some steps. Times leave out the first ones, in which kernels are compiled."""

    layout: Layout | None
    losses: list[float]
    step_seconds: float  # median
    cpu_seconds: float  # of a step, median
    tokens_per_second: float  # padding left out
    padding: float
    peak_bytes: int | None

    def line(self) -> str:
        """The figures for people."""
        peak = "" if self.peak_bytes is None else f"  peak {self.peak_bytes / 2**30:.2f} GiB"
        return (
            f"{self.layout or 'unpacked':<9} {1000 * self.step_seconds:8.1f} ms/step  "
            f"CPU {self.cpu_seconds:7.3f} s/step  {self.tokens_per_second:8.0f} tokens/s  "
            f"padding {self.padding:6.1%}{peak}"
        )


@dataclass(frozen=True)
class Bench:
    """What is trained, and how."""

    model: Path
    device: Device
    batch: int
    micro_batch: int
    steps: int
    warm_up: int

    def prove(self, rows: TokenStore) -> Proof:
        """What the trainer finds out of the model before it packs."""
        from finetune_trainer.training.packed_attention import prove_packing

        return prove_packing(self._model(rows)[0], rows, rows.longest, self.device)

    def run(self, rows: TokenStore, layout: Layout | None) -> Measured:
        """Trains a new adapter of one seed."""
        import torch

        model, tokenizer = self._model(rows)
        if self.device.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
        training = self._spec().training
        plan = StepPlan(self.batch, self.micro_batch, "Disabled")
        watch = Stopwatch(None)
        trained = steps_of(model, tokenizer, rows, StepSettings(training, plan, self.device, layout), watch)
        share = rows.lengths.mean() * self.batch  # tokens of a step
        seconds = self._median(watch.clock)
        return Measured(
            layout,
            [entry.loss for entry in watch.history],
            seconds,
            self._median(watch.cpu),
            float(share / seconds),
            trained.padding,
            torch.cuda.max_memory_reserved() if self.device.kind == "cuda" else None,
        )

    def _median(self, times: Sequence[float]) -> float:
        steps = [after - before for before, after in pairwise(times)]
        return statistics.median(steps[self.warm_up :])

    def _model(self, rows: TokenStore) -> tuple[Any, Any]:
        source, engine = ModelSource(str(self.model), None, False), load_engine()
        base, tokenizer = engine.load_base(source, max(rows.longest, 64), self.device, METHODS["QLoRA"])
        return engine.trainable("Disabled").add_adapter(base, self._spec().lora, source), tokenizer

    def _spec(self) -> Any:
        spec: dict[str, Any] = {
            "model": {"source": "pvc://models/model"},
            "dataset": {"source": "pvc://models/rows"},
            "training": {"batchSize": self.batch, "maxSteps": self.steps, "loggingSteps": 1, "warmupSteps": 0},
            "output": {"destination": "pvc://models/out"},
            "runtime": {"gpusPerNode": 0 if self.device.kind == "cpu" else 1},
        }
        return run_config(spec, {}).spec
