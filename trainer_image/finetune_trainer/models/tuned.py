"""What an evaluation scores beside the base model: what the job's own training left, or what spec.model names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.results import Advice
from finetune_trainer.models.given_adapter import GivenAdapter, read_given
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
    advice: tuple[Advice, ...] = ()


def trained(spec: ResolvedSpec, folder: RunFolder, base: ModelSource, device: Device) -> Tuned:
    """What a training left in its folder."""
    method = METHODS[spec.method]
    artefact = folder.adapter if method.adapter else folder.model
    tokenizer = ModelSource(str(artefact), None, base.trust_remote_code)
    return Tuned(tokenizer, method.reload(artefact, device, base.trust_remote_code))


def given(base: ModelSource, adapter: ModelSource | None) -> Tuned:
    """An adapter of whoever made it; without one the model itself. Raises StageError as :func:`read_given` does."""
    if adapter is None:
        return Tuned(base, lambda model: model)
    return _with_adapter(read_given(adapter, base))


def _with_adapter(adapter: GivenAdapter) -> Tuned:
    advice = adapter.base_advice()
    return Tuned(adapter.tokenizer_source(), adapter.attach, (advice,) if advice else ())
