"""How a step is split, and what memory looks like to people."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.results import MemoryStatus
from finetune_api.spec import TrainingSpec
from finetune_trainer.stage.device import Device
from finetune_trainer.training.memory import GIB, device_memory, report_lines, summarise
from finetune_trainer.training.plan import ModelShape, Optimizer, StepPlan, optimizer_on, plan_step

LLAMA_1B = ModelShape(layers=16, hidden=2048, intermediate=8192, vocabulary=128256)
NAMES: tuple[Optimizer, ...] = ("AdamW8bit", "AdamW")
T4 = Device("cuda", "Tesla T4", 15 * GIB, "float16")


def plan(free: int | None, longest: int = 800, **training: Any) -> StepPlan:
    return plan_step(TrainingSpec(**training), LLAMA_1B, longest, free)


def test_eight_bit_adam_needs_a_gpu() -> None:
    cpu = Device("cpu", "CPU", 0, "float32")
    chosen = [(name, optimizer_on(device, TrainingSpec(optimizer=name))) for device in (T4, cpu) for name in NAMES]
    assert chosen == [("AdamW8bit", "AdamW8bit"), ("AdamW", "AdamW"), ("AdamW8bit", "AdamW"), ("AdamW", "AdamW")]


def test_a_large_gpu_takes_the_whole_batch_at_once_without_recomputing() -> None:
    assert plan(70 * GIB, batch_size=8) == StepPlan(8, 1, "Disabled")


def test_a_smaller_gpu_recomputes_before_it_splits() -> None:
    assert plan(13 * GIB, batch_size=8) == StepPlan(8, 1, "Unsloth")
    assert plan(13 * GIB, longest=2048, batch_size=64) == StepPlan(4, 16, "Unsloth")


def test_one_row_is_the_least_however_little_memory_there_is() -> None:
    assert plan(1, batch_size=6) == StepPlan(1, 6, "Unsloth")


def test_what_is_set_by_hand_is_obeyed() -> None:
    assert plan(70 * GIB, batch_size=8, micro_batch_size=2) == StepPlan(2, 4, "Disabled")
    assert plan(70 * GIB, batch_size=8, gradient_checkpointing="Enabled") == StepPlan(8, 1, "Enabled")
    assert plan(None, batch_size=8, micro_batch_size=1) == StepPlan(1, 8, "Disabled")


@pytest.mark.parametrize(("batch", "micro"), [(1, 1), (4, 4), (6, 3), (7, 1), (8, 4)])
def test_on_a_cpu_the_micro_batch_divides_the_batch_and_is_at_most_four(batch: int, micro: int) -> None:
    assert plan(None, batch_size=batch) == StepPlan(micro, batch // micro, "Disabled")


def test_peak_for_training_is_peak_minus_what_the_model_took() -> None:
    memory = device_memory(T4, before=2 * GIB, peak=5 * GIB, after=3 * GIB)
    assert memory.peak_for_training_bytes == 3 * GIB
    assert memory.peak_percent == "33.33"


def test_people_see_gibibytes_percent_seconds_and_minutes() -> None:
    memory = device_memory(T4, before=2 * GIB, peak=5 * GIB, after=3 * GIB)
    text = "\n".join(report_lines(MemoryStatus(summary=summarise(5 * GIB, 15 * GIB), devices=[memory]), 412.25))
    assert "412.2 seconds (6.87 minutes)" in text
    assert "Tesla T4, 15.000 GiB" in text
    assert "peak reserved for training      3.000 GiB   20.00 %" in text
    assert summarise(5 * GIB, 15 * GIB) == "5.0/15 GiB (33.3%)"
