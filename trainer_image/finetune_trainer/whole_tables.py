"""Tables that are printed whole, however narrow the terminal is."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

_UNBOUNDED = 10_000  # columns


def print_whole(console: Console, part: RenderableType) -> None:
    """Prints a table as wide as it must be, anything else as the console does.

    Without this a table that is wider than the terminal, or than the 80 columns of a file, loses its last characters,
    and a figure without its unit is a wrong one.
    """
    if not isinstance(part, Table):
        console.print(part)
        return
    needed = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), part).maximum
    usual, console.width = console.width, max(console.width, needed)
    console.print(part, crop=False)
    console.width = usual
