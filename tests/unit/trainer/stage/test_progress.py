"""Progress: newest wins, never waits, never goes back, never ends a run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import ProgressEndpoint
from finetune_api.progress import ProgressPush, progress_of
from finetune_trainer.stage.progress import Pace, ProgressPusher, http_sender, make_push


def value(step: int) -> ProgressPush:
    return make_push(step, 100, None, {})


def step_of(push: ProgressPush) -> int:
    return progress_of(push, "Train", "pod").step


class Gate:
    """A sender that holds each value until it is let through."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.started = threading.Event()
        self.open = threading.Event()

    def __call__(self, push: ProgressPush) -> None:
        self.started.set()
        assert self.open.wait(30)
        self.sent.append(step_of(push))


def test_the_newest_value_wins_while_the_network_is_slow_and_a_step_never_waits() -> None:
    gate = Gate()
    pusher = ProgressPusher(gate, interval_seconds=0)
    pusher.push(1, value(1))
    assert gate.started.wait(30)
    before = time.monotonic()
    for step in range(2, 1000):
        pusher.push(step, value(step))
    assert time.monotonic() - before < 5
    gate.open.set()
    pusher.close(30)
    assert gate.sent == [1, 999]


def test_steps_never_go_back() -> None:
    sent: list[int] = []
    pusher = ProgressPusher(lambda push: sent.append(step_of(push)), interval_seconds=1000)
    pusher.push(5, value(5))
    pusher.push(4, value(4))
    pusher.close(30)
    assert sent == [5]


def test_closing_sends_the_last_value_without_waiting_for_the_interval() -> None:
    sent: list[int] = []
    pusher = ProgressPusher(lambda push: sent.append(step_of(push)), interval_seconds=1000)
    for step in (1, 2, 3):
        pusher.push(step, value(step))
    pusher.close(30)
    assert sent[-1] == 3


def test_closing_gives_up_at_its_deadline() -> None:
    gate = Gate()
    pusher = ProgressPusher(gate, interval_seconds=0)
    pusher.push(1, value(1))
    assert gate.started.wait(30)
    before = time.monotonic()
    pusher.close(0.2)
    assert time.monotonic() - before < 10
    gate.open.set()


def test_a_failure_is_told_once_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[int] = []

    def fail(push: ProgressPush) -> None:
        tried.append(step_of(push))
        raise OSError("no route to host")

    pusher = ProgressPusher(fail, interval_seconds=0)
    for step in (1, 2):
        pusher.push(step, value(step))
        deadline = time.monotonic() + 30
        while step not in tried and time.monotonic() < deadline:
            threading.Event().wait(0.01)
    pusher.close(30)
    assert tried == [1, 2]
    assert capsys.readouterr().out.count("no route to host") == 1


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str | None, Any]]]]:
    received: list[tuple[str | None, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/status", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_token_is_read_again_for_each_push_because_it_rotates(
    tmp_path: Path, gateway: tuple[str, list[tuple[str | None, Any]]]
) -> None:
    url, received = gateway
    token = tmp_path / "token"
    send = http_sender(ProgressEndpoint(url=url, token_file=str(token)))
    for text in ("first", "second"):
        token.write_text(text + "\n")
        send(make_push(3, 10, 7.4, {"loss": "0.5", "learning_rate": "0.0002", "current_epoch": "1.5"}))
    assert [authorization for authorization, _ in received] == ["Bearer first", "Bearer second"]
    status = progress_of(ProgressPush.model_validate(received[0][1]), "Train", "pod")
    assert (status.step, status.total_steps, status.percent, status.remaining_seconds) == (3, 10, 30, 7)
    assert (status.loss, status.learning_rate, status.epoch) == ("0.5", "0.0002", "1.5")


def test_the_estimate_counts_only_the_steps_of_this_attempt() -> None:
    pace = Pace(first_step=100, now=0.0)
    assert pace.remaining_seconds(100, 200, now=5.0) is None
    assert pace.remaining_seconds(110, 200, now=20.0) == pytest.approx(180.0)
