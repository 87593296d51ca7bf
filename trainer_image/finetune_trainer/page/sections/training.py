"""Sections of how the model came to be, what it forgot, and how fast it answers."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_api.results import MemoryStatus, TrainingStatus
from finetune_trainer.page import charts_of_training as charts
from finetune_trainer.page.figures_of_metrics import Metric
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections.base import Section
from finetune_trainer.page.text import counted, duration, short, size, words

Fact = tuple[str, str]


def training(inputs: Inputs) -> Section | None:
    """Loss, learning rate, speed and memory."""
    result = inputs.training
    if result is None or result.training is None:
        return None
    course, steps = result.training, inputs.steps
    drawings = [
        charts.loss(steps, course.best_step),
        charts.learning_rate(steps),
        charts.throughput(steps),
        charts.memory(steps) or charts.gradient(steps),
    ]
    facts = [*_course(course), *(_memory(result.memory) if result.memory else [])]
    return Section("training", "Training", {"drawings": [one for one in drawings if one], "facts": facts})


def _course(course: TrainingStatus) -> Iterator[Fact]:
    seen = f", {counted(course.examples_seen, 'example')} seen" if course.examples_seen else ""
    yield "Steps", f"{course.steps:,}{seen}{', stopped early' if course.stopped_early else ''}"
    if course.first_loss and course.final_loss:
        yield "Training loss", f"{course.first_loss} → {course.final_loss}"
    if course.validation_loss:
        of = f", of step {course.best_step}" if course.best_step else ""
        yield "Validation loss", f"{course.validation_loss}{of}"
    if course.resumed_from_step:
        yield "Went on", f"from the checkpoint of step {course.resumed_from_step:,}"
    yield "Time", duration(course.runtime_seconds)
    if course.trained_tokens:
        yield "Tokens", f"{course.trained_tokens:,}"
    if course.trainable_parameters and course.total_parameters:
        share = course.trainable_parameters / course.total_parameters
        yield "Parameters trained", f"{course.trainable_parameters:,} of {course.total_parameters:,} ({share:.2%})"
    engine = [short(one, 40) for one in (course.engine, course.optimizer, course.dtype, course.attention) if one]
    if engine:
        yield "Computed with", ", ".join(engine)


def _memory(memory: MemoryStatus) -> Iterator[Fact]:
    yield "Peak memory", short(memory.summary, 80)
    for one in memory.devices:
        yield (
            short(one.name, 60),
            f"{size(one.peak_reserved_bytes)} at most, {size(one.peak_for_training_bytes)} of it for training",
        )


def retention(inputs: Inputs) -> Section | None:
    """Whether the model forgot: rows of a general dataset, before and after."""
    kept = inputs.report.evaluation.retention
    course = inputs.training.training if inputs.training else None
    drawing = charts.retention(inputs.steps, course.best_step if course else None)
    metrics = [Metric(one) for one in kept.metrics] if kept else []
    if not metrics and drawing is None:
        return None
    show = {
        "metrics": metrics,
        "examples": kept.examples if kept else 0,
        "with_base": any(one.status.base for one in metrics),
        "drawings": [drawing] if drawing else [],
    }
    return Section("retention", "What it still knows", show)


def latency(inputs: Inputs) -> Section | None:
    """How fast each model answers."""
    found = inputs.report.evaluation.latency
    return (
        Section("latency", "Speed of answers", {"models": [(words(one.name), one) for one in found]}) if found else None
    )
