"""``python -m finetune_trainer``: see :mod:`finetune_trainer.cli`."""

from __future__ import annotations

import sys

from finetune_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
