"""Where updates are shown: a live screen on a terminal, appended lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from finetune_cli import lines, running, text
from finetune_cli.view import View, with_notice

Now = Callable[[], datetime]
REFRESHES_PER_SECOND = 8


class Screen(AbstractContextManager["Screen"], Protocol):
    """Shows a running job."""

    def show(self, view: View) -> None:
        """Shows a new state."""

    def notify(self, message: str) -> None:
        """Says why there is no newer state."""


class LineScreen:
    """Appends a line for each change."""

    def __init__(self, console: Console, now: Now) -> None:
        self._console, self._now, self._last = console, now, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, view: View) -> None:
        """Prints the state's line unless it stands there already."""
        self.notify(lines.line(view))

    def notify(self, message: str) -> None:
        """Prints a line unless it stands there already."""
        message = text.clean(message)
        if message != self._last:
            self._last = message
            self._console.print(Text(f"{self._now():%H:%M:%S}  {message}"), soft_wrap=True)


class LiveScreen:
    """Redraws one screen. It goes away when the result takes its place, and stays when watching ends before."""

    def __init__(self, console: Console, now: Now) -> None:
        self._now = now
        self._view: View | None = None
        self._message = ""
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.transient = kind is None
        self._live.__exit__(kind, error, traceback)

    def show(self, view: View) -> None:
        """Shows a new state from the next refresh on."""
        self._view, self._message = view, ""

    def notify(self, message: str) -> None:
        """Shows a word below the last state."""
        self._message = message

    def _render(self) -> RenderableType:
        if self._view is None:
            return text.text(self._message or "looking for the job", "yellow" if self._message else "dim")
        return running.render(with_notice(self._view, self._message), self._now())


def screen_for(console: Console, now: Now) -> Screen:
    """The screen that fits the console."""
    return LiveScreen(console, now) if console.is_terminal else LineScreen(console, now)
