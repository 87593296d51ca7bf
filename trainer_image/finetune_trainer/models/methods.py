"""How a base model is fine-tuned: in which precision it is loaded, what is trained of it, saved, and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finetune_api.lora import LoraSpec
from finetune_api.spec import MethodName
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device


class Trainable(Protocol):
    """What an engine can do to a base model to make something of it trainable."""

    def add_adapter(self, base: CausalLM, lora: LoraSpec, source: ModelSource) -> CausalLM: ...

    def train_weights(self, base: CausalLM) -> CausalLM: ...


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    ``quantised``: the base model is loaded in NF4, else in 16 bit (a CPU: 32). ``adapter``: a LoRA adapter is trained
    beside weights that stay as they are, else the weights themselves.
    """

    name: MethodName
    quantised: bool
    adapter: bool

    @property
    def precision(self) -> str:
        """How the base model is loaded, for people."""
        return "in 4 bit (NF4)" if self.quantised else "in 16 bit"

    def make_trainable(self, engine: Trainable, base: CausalLM, lora: LoraSpec | None, source: ModelSource) -> CausalLM:
        """The model with what is trained of it. Raises StageError (InvalidSpec) for an adapter it can't have."""
        if self.adapter:
            assert lora, "a method with an adapter has its settings"
            return engine.add_adapter(base, lora, source)
        return engine.train_weights(base)

    def load(self, source: ModelSource, device: Device) -> CausalLM:
        """The base model, for evaluation. Raises StageError (ModelNotFound) when it isn't whole."""
        from finetune_trainer.models.loading import load_base

        return load_base(source, device, self.quantised)

    def reload(self, artefact: Path, device: Device, trust_remote_code: bool) -> Callable[[CausalLM], CausalLM]:
        """What makes of a base model the tuned one that a run saved, in its place: the base is lost by it."""
        from finetune_trainer.models.loading import attach_adapter, release

        if self.adapter:
            return lambda base: attach_adapter(base, artefact)

        def replaced(base: CausalLM) -> CausalLM:
            release(base)  # its memory is what the tuned one takes
            return self.load(ModelSource(str(artefact), None, trust_remote_code), device)

        return replaced


_METHODS = (
    Method("QLoRA", quantised=True, adapter=True),
    Method("LoRA", quantised=False, adapter=True),
    Method("Full", quantised=False, adapter=False),
)
METHODS: dict[MethodName, Method] = {method.name: method for method in _METHODS}
