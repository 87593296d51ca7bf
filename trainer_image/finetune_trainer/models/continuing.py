"""An adapter that was made before: read, checked against what the spec says, and loaded for training to go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from finetune_api.lora import LoraSpec
from finetune_api.reasons import Reason
from finetune_api.results import Advice
from finetune_trainer.models.protocols import AdapterModel, CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.failure import StageError, first_line

_FIELD = "spec.model.adapter"
# Beginnings of an adapter that leave the base model's weights as they are.
_PLAIN_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")
_BEYOND_SPEC = (
    *("rank_pattern", "alpha_pattern", "use_dora", "use_qalora", "alora_invocation_tokens", "layer_replication"),
    *("arrow_config", "kasa_config", "monteclora_config", "use_bdlora", "velora_config"),
)


@dataclass(frozen=True)
class EarlierAdapter:
    """An adapter as PEFT wrote it."""

    source: ModelSource
    settings: Any  # a peft.LoraConfig
    weights: dict[str, Any]  # tensors by name

    @property
    def name(self) -> str:
        """For messages."""
        return self.source.name

    def check(self, lora: LoraSpec) -> None:
        """Raises StageError (InvalidSpec) unless ``spec.lora`` describes this adapter."""
        expected = {
            "rank": (lora.rank, self.settings.r),
            "alpha": (lora.alpha, self.settings.lora_alpha),
            "rankStabilized": (bool(lora.rank_stabilized), bool(self.settings.use_rslora)),
        }
        for field, (wanted, found) in expected.items():
            if wanted != found:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"{_FIELD} {self.name} has {field} {found}, and spec.lora says {wanted}",
                    f"set spec.lora.{field} to {found} and apply under a new name",
                )
        if odd := self._beyond_spec():
            raise StageError(
                Reason.INVALID_SPEC,
                f"{_FIELD} {self.name} has {odd}, which can't be continued: its weights would mean something else here",
                "merge it into its base model with PEFT and train on that, under a new name",
            )

    def _beyond_spec(self) -> str | None:
        """A setting of PEFT's that changes what the weights mean and that a spec has no word for, if there is one."""
        beginning = self.settings.init_lora_weights
        if beginning not in _PLAIN_BEGINNINGS:
            return f"init_lora_weights {beginning}, with which PEFT changes the base model's weights"
        return next((name for name in _BEYOND_SPEC if getattr(self.settings, name, None)), None)

    def load_into(self, model: AdapterModel) -> None:
        """Gives a model's new adapter these weights. Raises StageError (InvalidSpec) when they are of another model."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        here = get_peft_model_state_dict(model)
        if odd := sorted(here.keys() ^ self.weights.keys()):
            side = "has" if odd[0] in self.weights else "lacks"
            raise StageError(
                Reason.INVALID_SPEC,
                f"{_FIELD} {self.name} does not fit model and spec.lora: it {side} {odd[0]}"
                + (f" and {len(odd) - 1} more differ" if len(odd) > 1 else ""),
                "check spec.model.source, spec.lora.targetModules and bias; apply under a new name",
            )
        for name, value in here.items():
            if self.weights[name].shape != value.shape:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"{_FIELD} {self.name} is of another base model: its {name} is {list(self.weights[name].shape)}, "
                    f"and {list(value.shape)} here",
                    "name the base model that it was trained on, and apply under a new name",
                )
        set_peft_model_state_dict(model, self.weights)

    def attach(self, base: CausalLM) -> CausalLM:
        """A plain base model with this adapter on it, in its place."""
        from peft import PeftModel

        source = self.source
        return cast(
            CausalLM, PeftModel.from_pretrained(base, source.name, revision=source.revision, token=source.token)
        )

    def base_advice(self, source: ModelSource, name: str = "the adapter that training continued from") -> Advice | None:
        """What to know when it says that it belongs to a base of another name. Shapes can be equal for others."""
        of = str(self.settings.base_model_name_or_path or "")
        if not of or Path(of).name.lower() == Path(source.name).name.lower():
            return None
        text = (
            f"{name} says that its base is {of}, and the run's is {source.name}: "
            "shapes are equal, weights may not be. Check that they are one model"
        )
        return Advice(reason="OtherBaseName", message=text[:512])


def read_adapter(source: ModelSource, lora: LoraSpec | None) -> EarlierAdapter:
    """Reads the adapter that ``spec.lora`` describes; without it, any that is a LoRA.

    Raises StageError: ModelNotFound when it can't be read, InvalidSpec when it is no LoRA or another one.
    """
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    options = {"revision": source.revision, "token": source.token}
    try:
        settings = PeftConfig.from_pretrained(source.name, **options)
        weights = load_peft_weights(source.name, device="cpu", **options)
    except Exception as error:  # whatever a hub, a disk or a broken file may say
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            f"{_FIELD} {source.name} can't be read: {first_line(error)}",
            "name a folder with adapter_config.json and adapter_model.safetensors, and apply under a new name",
        ) from error
    if str(getattr(settings.peft_type, "value", settings.peft_type)) != "LORA":
        kind = getattr(settings.peft_type, "value", settings.peft_type)
        raise StageError(
            Reason.INVALID_SPEC,
            f"{_FIELD} {source.name} is no LoRA adapter, but {kind}",
            "name a LoRA adapter, and apply under a new name",
        )
    earlier = EarlierAdapter(source, settings, dict(weights))
    if lora:
        earlier.check(lora)
    return earlier
