"""An adapter that is evaluated without having been trained here: read, tried on its base's shape, put on as PEFT does.

PEFT loads what is there of an adapter and says no more than a warning of the rest. Here that is refused: a score of
half an adapter is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from finetune_api.reasons import Reason
from finetune_api.results import Advice
from finetune_trainer.models.continuing import EarlierAdapter, read_adapter
from finetune_trainer.models.loading import load_config, skeleton
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.failure import StageError, first_line

_FIELD = "spec.model.adapter"
_TOKENIZER = "tokenizer_config.json"
_OTHER_BASE = "name the base model that it was trained on, and apply under a new name"


@dataclass(frozen=True)
class GivenAdapter:
    """An adapter as PEFT wrote it, and the base model that it is to be of."""

    earlier: EarlierAdapter
    base: ModelSource

    def attach(self, model: CausalLM) -> CausalLM:
        """The tuned model: ``model`` itself with the adapter on it, in evaluation mode.

        Raises StageError (InvalidSpec) when it is of another base model.
        """
        return cast(CausalLM, self._loaded_into(model).eval())

    def check_shape(self) -> None:
        """Tries the adapter on the base model's shape, without its weights. Raises StageError as :meth:`attach`."""
        bare = skeleton(self.base, load_config(self.base))
        if bare is None:  # then the model itself tells
            return
        try:
            self._loaded_into(bare, low_cpu_mem_usage=True, torch_device="cpu")
        except NotImplementedError:  # a beginning of LoRA that needs numbers: the model itself tells
            return

    def base_advice(self) -> Advice | None:
        """What to know when it says that it belongs to a base of another name."""
        return self.earlier.base_advice(self.base, "the adapter")

    def tokenizer_source(self) -> ModelSource:
        """Where its tokenizer lies: beside it, or with the base model where it brings none."""
        from transformers.utils import cached_file

        source = self.earlier.source
        options = {"revision": source.revision, "token": source.token}
        own = cached_file(source.name, _TOKENIZER, _raise_exceptions_for_missing_entries=False, **options)
        if own is None:
            return self.base
        return ModelSource(source.name, source.revision, self.base.trust_remote_code, token=source.token)

    def _loaded_into(self, model: CausalLM, **options: Any) -> Any:
        from peft import PeftModel

        source = self.earlier.source
        options |= {"revision": source.revision, "token": source.token}
        try:
            tuned = PeftModel.from_pretrained(model, source.name, **options)
            # Once more, since only this tells what was not found on either side.
            result = tuned.load_adapter(source.name, tuned.active_adapter, **options)
        except (ValueError, RuntimeError, TypeError) as error:
            if isinstance(error, NotImplementedError) or _is_memory(error):
                raise
            raise self._misfit(_shape_problem(error)) from error
        for verb, names in (("lacks", result.missing_keys), ("has", result.unexpected_keys)):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise self._misfit(f"it {verb} {sorted(names)[0]}{more}")
        return tuned

    def _misfit(self, problem: str) -> StageError:
        text = f"{_FIELD} {self.earlier.name} does not fit spec.model.source {self.base.name}: {problem}"
        return StageError(Reason.INVALID_SPEC, text, _OTHER_BASE)


def read_given(source: ModelSource, base: ModelSource) -> GivenAdapter:
    """Reads an adapter and tries it on the shape of its base model.

    Raises StageError: ModelNotFound when it can't be read or holds numbers that are none, InvalidSpec when it is no
    LoRA, or of another base model.
    """
    import torch

    adapter = GivenAdapter(read_adapter(source, None), base)
    for name, value in adapter.earlier.weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise StageError(
                Reason.MODEL_NOT_FOUND,
                f"{_FIELD} {source.name} is spoilt: {name} holds numbers that are not finite",
                "its training may have diverged: name another adapter, and apply under a new name",
            )
    adapter.check_shape()
    return adapter


def _is_memory(error: Exception) -> bool:
    from torch import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def _shape_problem(error: Exception) -> str:
    """What PEFT says of the first tensor that does not fit."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("size mismatch")), first_line(error))
