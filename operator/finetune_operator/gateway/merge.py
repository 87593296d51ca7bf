"""Turns a push into the progress that status will show, completed from what the same pod said before."""

from __future__ import annotations

from datetime import datetime

from finetune_api.progress import Metric, ProgressPush, ProgressStatus, TrainerStatus, percent_of, progress_of
from finetune_operator.gateway.identity import Reporter

_KEPT = ("epoch", "loss", "learning_rate", "tokens_per_second")


def merge(push: ProgressPush, reporter: Reporter, previous: ProgressStatus | None, now: datetime) -> ProgressStatus:
    """The progress after a push.

    ``previous`` is what the same pod reported last. Hugging Face's callback names no step in its first and last push,
    and no loss before the first log, so these are carried over. The time is the gateway's: pods' clocks may be off.
    """
    status = _with_steps(push.trainer_status, previous)
    progress = progress_of(ProgressPush(trainer_status=status), reporter.stage, reporter.pod)
    kept = {name: getattr(previous, name) for name in _KEPT if previous and getattr(progress, name) is None}
    return progress.model_copy(update={**kept, "last_update_time": now})


def _with_steps(status: TrainerStatus, previous: ProgressStatus | None) -> TrainerStatus:
    """Adds the metrics current_step and total_steps where the push has none and they can be known."""
    known = previous or ProgressStatus()
    added = {} if status.metric("total_steps") else {"total_steps": known.total_steps}
    if status.metric("current_step", "step") is None:
        total = _count(status.metric("total_steps")) or known.total_steps
        step = max(known.step, total * (status.progress_percentage or 0) // 100)
        percent = percent_of(step, total) if total else status.progress_percentage
        added["current_step"] = step
        status = status.model_copy(update={"progress_percentage": percent})
    metrics = [Metric(name=name, value=str(value)) for name, value in added.items()]
    return status.model_copy(update={"metrics": [*status.metrics, *metrics]})


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
