"""Watches one job until its verdict."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_api.job import FineTuneJob
from finetune_cli.follow import Update, Waiting
from finetune_cli.screen import Now, Screen
from finetune_cli.view import View, advance, is_over


def watch_until_over(updates: Iterator[Update], screen: Screen, now: Now) -> FineTuneJob:
    """Shows each update and returns the job once its verdict stands. Raises what ``updates`` raises."""
    view: View | None = None
    with screen:
        for update in updates:
            if isinstance(update, Waiting):
                screen.notify(update.message)
                continue
            view = advance(view, update.job, now())
            screen.show(view)
            if is_over(update.job):
                return update.job
    raise RuntimeError("updates ended without a verdict")
