"""What an evaluation scores beside the base model: what the job's own training left, or what spec.model names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.results import Advice
from finetune_trainer.models.given_adapter import read_given
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.run_folder import RunFolder


@dataclass(frozen=True)
class Tuned:
    """A tuned model. ``tokenizer`` is where its tokenizer lies; ``attach`` makes it of a base model, in its place."""

    tokenizer: ModelSource
    attach: Callable[[CausalLM], CausalLM]
    # What makes of the tuned model one with the adapter in its weights, in 16 bit and in its place; None: no adapter.
    merge: Callable[[CausalLM, Device], CausalLM] | None = None
    advice: tuple[Advice, ...] = ()


def trained(spec: ResolvedSpec, folder: RunFolder, base: ModelSource, device: Device) -> Tuned:
    """What a training left in its folder."""
    method = METHODS[spec.method]
    artefact = folder.adapter if method.adapter else folder.model
    tokenizer = ModelSource(str(artefact), None, base.trust_remote_code)
    attach = method.reload(artefact, device, base.trust_remote_code)
    return Tuned(tokenizer, attach, _merge(base, attach) if method.adapter else None)


def given(base: ModelSource, adapter: ModelSource | None) -> Tuned:
    """An adapter of whoever made it; without one the model itself. Raises StageError as :func:`read_given` does."""
    if adapter is None:
        return Tuned(base, lambda model: model)
    found = read_given(adapter, base)
    advice = found.base_advice()
    merge = _merge(base, found.attach)
    return Tuned(found.tokenizer_source(), found.attach, merge, (advice,) if advice else ())


def _merge(base: ModelSource, attach: Callable[[CausalLM], CausalLM]) -> Callable[[CausalLM, Device], CausalLM]:
    from finetune_trainer.models.loading import release
    from finetune_trainer.models.merging import merged

    def merged_instead(tuned: CausalLM, device: Device) -> CausalLM:
        release(tuned)  # its memory is what the merged one takes
        return merged(base, attach, device)

    return merged_instead
