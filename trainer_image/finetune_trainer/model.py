"""Loads the base model for training: NF4 through Unsloth, then a LoRA adapter on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_api.reasons import Reason
from finetune_api.spec import FineTuneJobSpec, LoraSpec
from finetune_trainer.device import Device
from finetune_trainer.failure import StageError
from finetune_trainer.policy import Checkpointing, ModelShape
from finetune_trainer.source import ModelSource

_BIAS = {"None": "none", "All": "all", "LoraOnly": "lora_only"}
_CHECKPOINTING: dict[Checkpointing, str | bool] = {"Unsloth": "unsloth", "Enabled": True, "Disabled": False}


@dataclass(frozen=True)
class LoadedModel:
    """A base model and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def shape(self) -> ModelShape:
        """What the memory policy needs to know."""
        config = self.model.config.get_text_config()
        intermediate = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        return ModelShape(config.num_hidden_layers, config.hidden_size, intermediate, config.vocab_size)


def load_base(source: ModelSource, spec: FineTuneJobSpec, device: Device) -> LoadedModel:
    """Loads the base model in NF4 for training. Raises StageError (ModelNotFound) when it can't be read.

    This must be the process's first import of Unsloth, and come before any of trl, transformers and peft.
    """
    import torch
    from unsloth import FastLanguageModel

    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=source.name,
            revision=source.revision,
            max_seq_length=spec.model.max_sequence_length,
            dtype=getattr(torch, device.dtype),
            load_in_4bit=True,
            use_exact_model_name=True,  # else Unsloth takes a repository of its own for a name it knows
            trust_remote_code=source.trust_remote_code,
        )
    except OSError as error:
        if error.errno is not None:  # the operating system's; transformers raises its own without a number
            raise
        raise StageError(Reason.MODEL_NOT_FOUND, f"{source.name} can't be loaded: {error}") from error
    return LoadedModel(model, tokenizer)


def add_adapter(base: LoadedModel, lora: LoraSpec, checkpointing: Checkpointing, source: ModelSource) -> Any:
    """Puts a LoRA adapter on the base model, in place. Raises StageError (InvalidSpec) for an unknown target module."""
    from unsloth import FastLanguageModel

    leaves = {name.rpartition(".")[2] for name, _ in base.model.named_modules()}
    if missing := [target for target in lora.target_modules if target.rpartition(".")[2] not in leaves]:
        raise StageError(Reason.INVALID_SPEC, f"spec.lora.targetModules: the model has no {', '.join(missing)}")
    model = FastLanguageModel.get_peft_model(
        base.model,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        bias=_BIAS[lora.bias],
        target_modules=list(lora.target_modules),
        use_gradient_checkpointing=_CHECKPOINTING[checkpointing],
        random_state=lora.seed,
    )
    settings = model.peft_config["default"]
    # What the saved adapter says about its base: the name that the evaluation and PEFT load, not a cache path.
    settings.base_model_name_or_path, settings.revision = source.name, source.revision
    if isinstance(settings.target_modules, set):  # a set is saved in another order by each process
        settings.target_modules = sorted(settings.target_modules)
    return model
