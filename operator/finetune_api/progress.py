"""Progress on the wire (Kubeflow KEP-2779) and in status."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from finetune_api.base import MAX_COUNT, ApiModel, Count, Number, Short, StatusModel, Time, Word

MetricText = Annotated[str, Field(max_length=64)]
MAX_BODY_BYTES = 65_536


class Metric(ApiModel):
    """One named value; values travel as text."""

    name: MetricText
    value: MetricText


class TrainerStatus(ApiModel):
    """The body's ``trainerStatus``, as Hugging Face's own KubeflowCallback posts it."""

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    estimated_remaining_seconds: Annotated[int, Field(ge=0, le=MAX_COUNT)] | None = None
    metrics: Annotated[list[Metric], Field(max_length=64)] = []
    last_updated_time: Time | None = None

    def metric(self, *names: str) -> str | None:
        """The value of the first metric that is there, if any."""
        values = {metric.name: metric.value for metric in self.metrics}
        return next((values[name] for name in names if name in values), None)


class ProgressPush(ApiModel):
    """The body of a progress POST."""

    trainer_status: TrainerStatus


class ProgressStatus(StatusModel):
    """``status.progress``: how far the running attempt has come."""

    stage: Word = Field(default="Train", description="The stage that step counts.")
    pod: Short | None = Field(default=None, description="The attempt's pod. A new one may start at a lower step.")
    step: Count = Field(default=0, description="Optimizer steps done; rows scored while evaluating.")
    total_steps: Count = Field(default=0, description="Steps of the stage.")
    percent: Annotated[int, Field(ge=0, le=100)] = Field(default=0, description="Share of steps done.")
    epoch: Number | None = Field(default=None, description="Passes over the training rows so far.")
    loss: Number | None = Field(default=None, description="Training loss last logged.")
    learning_rate: Number | None = Field(default=None, description="Learning rate last used.")
    tokens_per_second: Count | None = Field(default=None, description="Training speed.")
    remaining_seconds: Count | None = Field(default=None, description="Estimate for the current stage.")
    summary: Short | None = Field(default=None, description="Steps done of all, for people.")
    remaining: Short | None = Field(default=None, description="The estimate for people, such as '2m 10s'.")
    last_update_time: Time | None = Field(default=None, description="When the trainer said so.")


def progress_of(push: ProgressPush, stage: str, pod: str) -> ProgressStatus:
    """Reads a push into status form. Metrics that are no finite numbers, or counts out of range, are left out."""
    status = push.trainer_status
    step, total = _whole(status.metric("current_step", "step")), _whole(status.metric("total_steps"))
    percent = status.progress_percentage
    return ProgressStatus(
        stage=stage,
        pod=pod,
        step=step or 0,
        total_steps=total or 0,
        percent=percent if percent is not None else percent_of(step or 0, total or 0),
        epoch=_decimal(status.metric("current_epoch", "epoch")),
        loss=_decimal(status.metric("loss")),
        learning_rate=_decimal(status.metric("learning_rate")),
        tokens_per_second=_whole(status.metric("tokens_per_second")),
        remaining_seconds=status.estimated_remaining_seconds,
        summary=f"{step or 0}/{total}" if total else f"{percent or 0}%",
        remaining=format_duration(status.estimated_remaining_seconds) or None,
        last_update_time=status.last_updated_time,
    )


def percent_of(step: int, total: int) -> int:
    """Whole percent of steps done, 0 when the total is unknown."""
    return min(100, step * 100 // total) if total else 0


def format_duration(seconds: int | None) -> str:
    """Seconds for people: '41s', '2m 10s', '3h 05m'; empty when unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}h {minutes_left:02d}m" if hours else f"{minutes}m {rest:02d}s"


def _finite(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str | None) -> int | None:
    value = _finite(text)
    return int(value) if value is not None and 0 <= value <= MAX_COUNT else None


def _decimal(text: str | None) -> str | None:
    return text[:32] if text is not None and _finite(text) is not None else None
