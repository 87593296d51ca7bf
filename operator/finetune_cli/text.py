"""Small texts: what comes from outside made safe for a terminal, and numbers made short."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from finetune_api.printable import clean as clean

_BARS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def text(value: str, style: str = "") -> Text:
    """Cleaned text, never read as markup."""
    return Text(clean(value), style=style)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last ``width`` values as bars, scaled between their lowest and highest. Empty for fewer than two."""
    shown = values[-width:]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in shown)


def size(count: int) -> str:
    """Bytes for people, in powers of 1024."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def decimal(value: str | None, digits: int = 4) -> str:
    """A number of the status with fewer digits; '-' when it is absent, and as it stands when it is no number."""
    if value is None:
        return "-"
    try:
        return f"{float(value):.{digits}g}"
    except ValueError:
        return clean(value)


def percent(value: str | None) -> str:
    """A proportion of the status as a percentage."""
    if value is None:
        return "-"
    try:
        return f"{float(value) * 100:.1f}%"
    except ValueError:
        return clean(value)


def points(base: str | None, tuned: str | None) -> str:
    """How far tuned lies above base, in percentage points; empty when either is absent."""
    try:
        return f"{(float(tuned or '') - float(base or '')) * 100:+.1f} points"
    except ValueError:
        return ""


def signed(value: str | None, digits: int = 3) -> str:
    """A difference of the status with its sign; empty when it is absent or no number."""
    try:
        return f"{float(value or ''):+.{digits}g}"
    except ValueError:
        return ""
