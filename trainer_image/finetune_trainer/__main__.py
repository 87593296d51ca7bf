"""``python -m finetune_trainer``: see :mod:`finetune_trainer.cli`."""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    # PID 1 of a pod ignores SIGTERM until it asks for it, and what follows takes its time. Here nothing is lost yet:
    # the code is that of Interrupted.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(os.EX_TEMPFAIL))
    from finetune_trainer.cli import main

    sys.exit(main())
