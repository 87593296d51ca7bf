"""SIGTERM and Ctrl-C: a stage leaves at once, or first brings its work into safety."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Leave = Callable[[signal.Signals], None]
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether the process was told to stop, and what it does about it.

    Inside of :meth:`put_off` a first signal is only noted, and the work asks :attr:`requested` where it can end. A
    second one ends it at once, as any does outside.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._putting_off = False
        self._leave: Leave = _default

    def handle(self, leave: Leave) -> None:
        """From now on a signal that is not put off calls ``leave``. PID 1 ignores SIGTERM unless it asks for it."""
        self._leave = leave
        signal.signal(signal.SIGTERM, self._on_signal)

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Work that ends at a place of its own choice."""
        before = {one: signal.getsignal(one) for one in _SIGNALS}
        self._putting_off = True
        try:
            for one in _SIGNALS:
                signal.signal(one, self._on_signal)
            yield
        finally:
            self._putting_off = False
            for one, handler in before.items():
                signal.signal(one, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = self.requested is None, signal.Signals(number)
        if self._putting_off and first:
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        self._leave(self.requested)


def _default(number: signal.Signals) -> None:
    raise SystemExit(128 + number)


# A process has one set of signal handlers.
INTERRUPTION = Interruption()
