"""How a step is split, and what memory looks like to people."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.defaults import ResolvedTraining
from finetune_api.results import MemoryStatus
from finetune_trainer.stage.device import Device
from finetune_trainer.training.memory import GIB, MemoryBefore, before_lines, device_memory, report_lines, summarise
from finetune_trainer.training.plan import (
    ModelShape,
    Optimizer,
    StepPlan,
    even_split,
    optimizer_on,
    plan_step,
    total_steps,
    warmup_steps,
)

LLAMA_1B = ModelShape(layers=16, hidden=2048, intermediate=8192, vocabulary=128256)
NAMES: tuple[Optimizer, ...] = ("AdamW8bit", "AdamW")
T4 = Device("cuda", "Tesla T4", 15 * GIB, "float16")


def settings(**training: Any) -> ResolvedTraining:
    return ResolvedTraining(learning_rate="2e-4", **training)


def plan(free: int | None, longest: int = 800, **training: Any) -> StepPlan:
    return plan_step(settings(**training), LLAMA_1B, longest, free)


def test_eight_bit_adam_needs_a_gpu() -> None:
    cpu = Device("cpu", "CPU", 0, "float32")
    chosen = [(name, optimizer_on(device, settings(optimizer=name))) for device in (T4, cpu) for name in NAMES]
    assert chosen == [("AdamW8bit", "AdamW8bit"), ("AdamW", "AdamW"), ("AdamW8bit", "AdamW"), ("AdamW", "AdamW")]


def test_a_large_gpu_takes_the_whole_batch_at_once_without_recomputing() -> None:
    assert plan(70 * GIB, batch_size=8) == StepPlan(8, 8, "Disabled", may_shrink=True)


def test_a_smaller_gpu_recomputes_before_it_splits() -> None:
    assert plan(13 * GIB, batch_size=8) == StepPlan(8, 8, "Unsloth", may_shrink=True)
    split = plan(13 * GIB, longest=2048, batch_size=64)
    assert (split.micro_batch, split.passes, split.checkpointing) == (5, 13, "Unsloth")


def test_one_row_is_the_least_however_little_memory_there_is() -> None:
    assert plan(1, batch_size=6) == StepPlan(6, 1, "Unsloth", may_shrink=True)


def test_what_is_set_by_hand_is_obeyed_and_never_lowered() -> None:
    assert plan(70 * GIB, batch_size=8, micro_batch_size=2) == StepPlan(8, 2, "Disabled")
    assert plan(70 * GIB, batch_size=8, gradient_checkpointing="Enabled") == StepPlan(8, 8, "Enabled", may_shrink=True)
    assert plan(None, batch_size=8, micro_batch_size=1) == StepPlan(8, 1, "Disabled")


@pytest.mark.parametrize(
    ("batch", "limit", "micro", "passes"),
    [
        (7, 6, 4, 2),
        (8, 8, 8, 1),
        (8, 100, 8, 1),
        (8, 5, 4, 2),
        (64, 5, 5, 13),
        (13, 12, 7, 2),
        (5, 0, 1, 5),
        (1, 4, 1, 1),
    ],
)
def test_a_batch_is_split_into_as_few_and_as_even_passes_as_fit(
    batch: int, limit: int, micro: int, passes: int
) -> None:
    assert even_split(batch, limit) == micro
    assert StepPlan(batch, micro, "Disabled").passes == passes


@pytest.mark.parametrize(("batch", "micro"), [(1, 1), (4, 4), (6, 3), (7, 4), (8, 4)])
def test_on_a_cpu_a_pass_holds_at_most_four_rows(batch: int, micro: int) -> None:
    assert plan(None, batch_size=batch) == StepPlan(batch, micro, "Disabled", may_shrink=True)


@pytest.mark.parametrize(
    ("training", "rows", "steps"),
    [({"max_steps": 7}, 100, 7), ({"epochs": 1}, 8, 1), ({"epochs": 3}, 9, 6), ({"epochs": 2, "batch_size": 3}, 3, 2)],
)
def test_steps_follow_from_rows_and_epochs(training: dict[str, Any], rows: int, steps: int) -> None:
    assert total_steps(settings(**training), rows) == steps


def test_a_warm_up_takes_at_most_half_of_the_run_and_says_when_it_was_cut() -> None:
    assert warmup_steps(settings(warmup_steps=5), 10) == (5, None)
    assert warmup_steps(settings(warmup_steps=0), 1) == (0, None)
    for total, taken in ((2, 1), (1, 0), (9, 4)):
        steps, advice = warmup_steps(settings(warmup_steps=5), total)
        assert steps == taken
        assert advice
        assert advice.reason == "WarmupCut"
        assert f"warmupSteps 5 is more than half of the run's {total} steps: {taken} were taken" in advice.message


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


def test_what_is_reserved_is_told_before_training_too() -> None:
    text = "\n".join(before_lines(T4, MemoryBefore(reserved=2 * GIB, resident=GIB)))
    assert "Tesla T4, 15.000 GiB" in text
    assert "reserved before training        2.000 GiB   13.33 %" in text
    assert "host memory before training" in before_lines(Device("cpu", "CPU", 0, "float32"), MemoryBefore(0, GIB))[0]
