"""How many parameters a model has, how many of them are trained, and what a run will write. Needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.output import MERGED
from finetune_trainer.models.adapter_targets import adapter_parameters
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.protocols import CausalLM

TRAINED_BYTES = 4  # of a weight that is trained, which is kept in 32 bit
_MERGED_BYTES = 2
MOMENT_BYTES = {"AdamW8bit": 2, "AdamW": 8}  # both moments of a weight
# Settings, manifests, result, report, random states and what file systems round up.
_BESIDES = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """Parameters of a run's model."""

    base: int
    trained: int

    @property
    def total(self) -> int:
        """Those of the base model and of the adapter, if there is one."""
        return self.base + (self.trained if self.trained < self.base else 0)

    def checkpoint_bytes(self, optimizer: str) -> int:
        """One checkpoint: what is trained and its moments."""
        return self.trained * (TRAINED_BYTES + MOMENT_BYTES[optimizer])

    def artefact_bytes(self, spec: ResolvedSpec, tokenizer: int) -> int:
        """All that is saved at the end; ``tokenizer`` is what one takes beside each artefact, in bytes."""
        adapter = model = 0
        if METHODS[spec.method].adapter:
            twice = spec.lora is not None and spec.lora.initialization == "PiSSA"
            adapter = self.trained * TRAINED_BYTES * (2 if twice else 1) + tokenizer
        if MERGED in spec.output.formats:
            model = self.base * _MERGED_BYTES + tokenizer
        return adapter + model

    def room_needed(self, spec: ResolvedSpec, tokenizer: int) -> int:
        """What the run may write beside its checkpoints before it is done, in bytes.

        Artefacts are written as drafts beside those of an earlier attempt.
        """
        return 2 * self.artefact_bytes(spec, tokenizer) + _BESIDES

    def checkpoint_room(self, spec: ResolvedSpec, optimizer: str) -> int:
        """What the run's checkpoints take at most, in bytes: a new one is whole before the oldest goes."""
        best = 1 if spec.training.early_stopping else 0  # it stays until there is a better one
        return (spec.training.checkpoint.keep + best + 1) * self.checkpoint_bytes(optimizer)


def sizes_of(model: CausalLM, spec: ResolvedSpec) -> Sizes:
    """Of a base model, whose weights need not be there, as the spec will train it.

    Raises StageError (InvalidSpec) for a target module that it doesn't have.
    """
    base = sum(parameter.numel() for parameter in model.parameters())
    return Sizes(base, adapter_parameters(model, spec.lora) if spec.lora else base)
