"""``transformers serve`` with a model of this machine: a real server that speaks OpenAI's chat completions."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 180


@contextmanager
def served_model(model: Path, log: Path) -> Iterator[str]:
    """Serves a model's folder on a free port; yields the endpoint's base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--default-seed", "0"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # between two looks
    raise AssertionError(f"no server within {_SECONDS} seconds:\n{log.read_text()[-3000:]}")
