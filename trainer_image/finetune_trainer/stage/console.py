"""Readable lines on standard output."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Prints one line at once, so that ``kubectl logs -f`` shows it."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()
