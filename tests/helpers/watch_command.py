"""`kubectl finetune watch` as a process, on a pipe or a terminal, its output read as it comes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from embedded_cluster.errors import ClusterError
from embedded_cluster.process import wait_until

DEADLINE_SECONDS = 60
# They have rich take a pipe for a terminal.
COLOUR_SWITCHES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@dataclass
class Command:
    """A running `kubectl finetune watch`, its output read as it comes."""

    arguments: list[str]
    on_terminal: bool = False
    interpreter: tuple[str, ...] = ()  # options of Python's own
    output: str = ""
    errors: str = ""
    _process: subprocess.Popen[bytes] = field(init=False)
    _threads: list[threading.Thread] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        read, write = pty.openpty() if self.on_terminal else os.pipe()
        errors_read, errors_write = os.pipe()
        inherited = {name: value for name, value in os.environ.items() if name not in COLOUR_SWITCHES}
        environment = {**inherited, "COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            [sys.executable, *self.interpreter, "-m", "finetune_cli.main", "watch", *self.arguments],
            stdout=write,
            stderr=errors_write,
            env=environment,
        )
        for end in (write, errors_write):
            os.close(end)
        for stream, name in ((read, "output"), (errors_read, "errors")):
            thread = threading.Thread(target=self._collect, args=(stream, name), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _collect(self, stream: int, name: str) -> None:
        try:
            while chunk := os.read(stream, 65536):
                setattr(self, name, getattr(self, name) + chunk.decode(errors="replace"))
        except OSError:  # how a pseudo-terminal says that its other end is closed
            pass
        finally:
            os.close(stream)

    def wait_for_output(self, text: str, stream: str = "output") -> None:
        try:
            wait_until(lambda: text in getattr(self, stream), DEADLINE_SECONDS, f"{text!r} in the {stream}")
        except ClusterError as error:
            raise AssertionError(f"{error}:\n{self.output}\n{self.errors}") from error

    def wait(self) -> int:
        code = self._process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        return code

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


Watch = Callable[..., Command]
