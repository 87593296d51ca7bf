"""Readable lines on standard output."""

from __future__ import annotations

import sys

from finetune_api.printable import clean


def say(message: str) -> None:
    """Prints one line at once, so that ``kubectl logs -f`` shows it, without what would steer a terminal."""
    sys.stdout.write(clean(message) + "\n")
    sys.stdout.flush()
