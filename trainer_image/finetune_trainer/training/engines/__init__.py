"""What computes training steps."""

from __future__ import annotations

from finetune_trainer.training.engines.base import Engine


def load_engine() -> Engine:
    """The engine that runs. The first call takes half a minute: it imports Unsloth.

    That must come before anything imports trl, transformers or peft.
    """
    from finetune_trainer.training.engines.unsloth.engine import UnslothEngine

    return UnslothEngine()
