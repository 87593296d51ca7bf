"""``python -m finetune_trainer``: see :mod:`finetune_trainer.cli`."""

from __future__ import annotations

import os
import signal
import sys


def _leave(number: int, frame: object) -> None:
    os.write(1, f"Interrupted: stopped by {signal.Signals(number).name} before it began; run it again\n".encode())
    os._exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    # PID 1 of a pod ignores SIGTERM until it asks for it, and what follows takes its time. Here nothing is lost yet:
    # the code is that of Interrupted. Ctrl-C would draw a traceback of imports.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    from finetune_trainer.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
