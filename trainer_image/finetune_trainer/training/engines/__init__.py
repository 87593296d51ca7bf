"""What computes training steps."""

from __future__ import annotations

from finetune_trainer.training.engines.base import Engine


def load_engine() -> Engine:
    """The engine that runs. The first call takes half a minute: it imports Unsloth, which must come before torch."""
    from finetune_trainer.training.engines.unsloth.engine import UnslothEngine

    return UnslothEngine()
