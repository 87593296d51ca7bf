"""A running job as one plain line, for logs and pipes: a line is printed when it differs from the last."""

from __future__ import annotations

from finetune_api.progress import ProgressStatus
from finetune_api.stages import TRAIN
from finetune_cli import text
from finetune_cli.view import View, describe_attempts, remark, repeated_attempts, stage, stage_progress


def line(view: View) -> str:
    """One line for the newest state."""
    parts = [stage(view.job), *(_progress(view) or _remark(view)), *_attempts(view)]
    return text.clean("  ".join(parts)).replace("\n", " ")


def _remark(view: View) -> list[str]:
    said = remark(view.job)
    return [part for part in (said.text, f"→ {said.advice}" if said.advice else "") if part]


def _progress(view: View) -> list[str]:
    progress = stage_progress(view.job)
    if progress is None or remark(view.job).is_hindrance:
        return []
    steps = f"{progress.step}/{progress.total_steps} ({progress.percent}%)" if progress.total_steps else ""
    left = f"ETA {progress.remaining}" if progress.remaining else ""
    return [part for part in (steps, *_optimisation(progress), left) if part]


def _optimisation(progress: ProgressStatus) -> list[str]:
    if progress.stage != TRAIN.name:  # what stands there is training's last
        return []
    loss = f"loss {text.decimal(progress.loss)}" if progress.loss else ""
    rate = f"learning rate {text.decimal(progress.learning_rate, 3)}" if progress.learning_rate else ""
    return [loss, rate]


def _attempts(view: View) -> list[str]:
    attempts = repeated_attempts(view.job)
    return [describe_attempts(attempts)] if attempts else []
