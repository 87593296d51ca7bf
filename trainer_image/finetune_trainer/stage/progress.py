"""Pushes progress from a thread of its own: the newest value wins, and a training step never waits for the network."""

from __future__ import annotations

import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from finetune_api.config import ProgressEndpoint
from finetune_api.progress import Metric, ProgressPush, TrainerStatus, percent_of
from finetune_trainer.stage.console import say

Send = Callable[[ProgressPush], None]
MIN_INTERVAL_SECONDS = 5.0
LINE_INTERVAL_SECONDS = 0.1  # a terminal shows no more
REQUEST_TIMEOUT_SECONDS = 10.0
FLUSH_SECONDS = 10.0


def make_push(step: int, total: int, remaining_seconds: float | None, metrics: dict[str, str]) -> ProgressPush:
    """One progress value in Kubeflow's KEP-2779 form."""
    counted = {"current_step": str(step), "total_steps": str(total), **metrics}
    status = TrainerStatus(
        progress_percentage=percent_of(step, total),
        estimated_remaining_seconds=None if remaining_seconds is None else max(0, round(remaining_seconds)),
        metrics=[Metric(name=name, value=value[:64]) for name, value in counted.items()],
        last_updated_time=datetime.now(UTC),
    )
    return ProgressPush(trainer_status=status)


def http_sender(endpoint: ProgressEndpoint) -> Send:
    """Posts to the status gateway. The token is read each time, because the kubelet rotates it."""
    context = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.url.startswith("https:") else None

    def send(push: ProgressPush) -> None:
        request = urllib.request.Request(
            endpoint.url,
            data=push.model_dump_json(by_alias=True, exclude_none=True).encode(),
            headers={
                "Authorization": f"Bearer {Path(endpoint.token_file).read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_SECONDS, context=context):
            pass

    return send


def line_sender(descriptor: int) -> Send:
    """Writes each push as a line of JSON to a file descriptor that the parent process reads."""

    def send(push: ProgressPush) -> None:
        # Shorter than PIPE_BUF, so that a line arrives whole or not at all.
        os.write(descriptor, push.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")

    return send


class ProgressPusher:
    """A slot for the newest value and a thread that sends it, at most once per interval.

    A failure to send is printed once and never ends the stage. Values whose step is lower than one already given are
    ignored, so what is sent never goes back.
    """

    def __init__(self, send: Send, interval_seconds: float = MIN_INTERVAL_SECONDS) -> None:
        self._send = send
        self._interval = interval_seconds
        self._condition = threading.Condition()
        self._waiting: ProgressPush | None = None
        self._highest = -1
        self._closing = False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def push(self, step: int, value: ProgressPush) -> None:
        """Leaves a value for the thread and returns at once."""
        with self._condition:
            if step < self._highest or self._closing:
                return
            self._highest = step
            self._waiting = value
            self._condition.notify()

    def close(self, deadline_seconds: float = FLUSH_SECONDS) -> None:
        """Sends what waits and ends the thread, or gives up after the deadline."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(deadline_seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting is not None or self._closing)
                value, self._waiting = self._waiting, None
            if value is None:
                return
            self._try_send(value)
            with self._condition:  # the pause ends early when the stage does
                self._condition.wait_for(lambda: self._closing, timeout=self._interval)

    def _try_send(self, value: ProgressPush) -> None:
        try:
            self._send(value)
        except Exception as error:  # whatever it is, progress is not worth a training run
            if not self._failed:
                say(f"progress can't be sent ({type(error).__name__}: {error}); training goes on without")
            self._failed = True


class Pace:
    """Speed and remaining time, from this attempt's own steps only."""

    def __init__(self, first_step: int, now: float | None = None) -> None:
        self._first_step = first_step
        self._start = time.monotonic() if now is None else now

    def remaining_seconds(self, step: int, total: int, now: float | None = None) -> float | None:
        """Estimate for the steps left; None before the first step of this attempt."""
        done = step - self._first_step
        if done <= 0:
            return None
        return (self.elapsed_seconds(now) / done) * (total - step)

    def elapsed_seconds(self, now: float | None = None) -> float:
        """Seconds since this attempt began."""
        return (time.monotonic() if now is None else now) - self._start
