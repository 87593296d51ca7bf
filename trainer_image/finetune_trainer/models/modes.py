"""A model looked at amid its training, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finetune_trainer.models.protocols import CausalLM


@contextmanager
def keep_modes(model: CausalLM) -> Iterator[None]:
    """Puts each module back into the mode that it is in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@contextmanager
def without_dropout(model: CausalLM) -> Iterator[None]:
    """Without dropout, and without changing anything."""
    with keep_modes(model):
        stop_dropout(model)
        yield


def stop_dropout(model: CausalLM) -> None:
    """Evaluation mode, but for 4-bit layers: on some CPUs bitsandbytes repacks their weights in it, for good."""
    for module in model.modules():
        module.training = type(module).__name__ == "Linear4bit"
