"""The entry of ``kubectl finetune``: light, so that Ctrl-C while the rest is loaded ends it without a traceback."""

from __future__ import annotations

import os
import signal
from typing import Any

INTERRUPTED = 130  # as a shell reports SIGINT


def _leave(*_: Any) -> None:
    os._exit(INTERRUPTED)


def app() -> None:
    """Runs the command line."""
    usual = signal.signal(signal.SIGINT, _leave)
    from finetune_cli import commands

    signal.signal(signal.SIGINT, usual)
    commands.app()


if __name__ == "__main__":
    app()
