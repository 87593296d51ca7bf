"""What computes training steps."""

from __future__ import annotations

import sys
from typing import Any, cast

from finetune_trainer.training.engines.base import Engine


def load_engine() -> Engine:
    """The engine that runs. The first call takes half a minute: it imports Unsloth.

    That must come before anything imports trl, transformers or peft.
    """
    # Unsloth takes xformers' kernels wherever it finds them. Their backward pass adds up in another order each time.
    sys.modules["xformers"] = cast(Any, None)
    from finetune_trainer.training.engines.unsloth.engine import UnslothEngine

    return UnslothEngine()
