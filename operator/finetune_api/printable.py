"""What comes from outside (answers of models, rows, messages of servers) made safe for a terminal or a log."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")


def clean(value: str) -> str:
    """Text without control characters. Of a line that a progress bar drew over, the last state stays."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPE.sub("", value).split("\n"))
    return "\n".join("".join(char if char.isprintable() else " " for char in line) for line in lines)
