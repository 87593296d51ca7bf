"""SIGTERM and Ctrl-C: at once, or where the work can end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from finetune_trainer.stage.interruption import Interruption


@pytest.fixture
def left() -> Iterator[list[signal.Signals]]:
    """What the process would have left for; the handlers are put back."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    yield []
    for one, handler in before.items():
        signal.signal(one, handler)


def test_a_signal_outside_of_work_that_puts_it_off_leaves_at_once(left: list[signal.Signals]) -> None:
    interruption = Interruption()
    interruption.handle(left.append)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == [signal.SIGTERM]


def test_a_first_signal_is_noted_where_it_is_put_off_and_a_second_one_leaves(left: list[signal.Signals]) -> None:
    interruption = Interruption()
    interruption.handle(left.append)
    with interruption.put_off():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (interruption.requested, left) == (signal.SIGTERM, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == [signal.SIGTERM]


def test_ctrl_c_is_put_off_once_too_and_then_is_a_keyboard_interrupt(left: list[signal.Signals]) -> None:
    interruption = Interruption()
    with interruption.put_off():
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_after_the_work_the_handlers_are_those_from_before(left: list[signal.Signals]) -> None:
    interruption = Interruption()
    interruption.handle(left.append)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="the work failed"), interruption.put_off():
        raise ValueError("the work failed")
    assert signal.getsignal(signal.SIGINT) is before
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == [signal.SIGTERM]
