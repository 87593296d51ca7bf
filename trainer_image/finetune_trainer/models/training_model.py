"""Loads the base model for training: NF4 through Unsloth, then a LoRA adapter on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_api.reasons import Reason
from finetune_api.spec import FineTuneJobSpec, LoraSpec
from finetune_trainer.sources.hub_errors import config_fault, model_fault
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.plan import Checkpointing, ModelShape

_BIAS = {"None": "none", "All": "all", "LoraOnly": "lora_only"}
_CHECKPOINTING: dict[Checkpointing, str | bool] = {"Unsloth": "unsloth", "Enabled": True, "Disabled": False}


@dataclass(frozen=True)
class LoadedModel:
    """A base model and its tokenizer."""

    model: Any
    tokenizer: Any
    max_length: int  # tokens of the longest row that may be trained on

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
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from unsloth import FastLanguageModel

    max_length = longest_row(spec.model.max_sequence_length, _context(source))
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=source.name,
            revision=source.revision,
            max_seq_length=max_length,
            dtype=getattr(torch, device.dtype),
            load_in_4bit=True,
            use_exact_model_name=True,  # else Unsloth takes a repository of its own for a name it knows
            trust_remote_code=source.trust_remote_code,
        )
    except (OSError, RuntimeError, ValueError) as error:
        if fault := model_fault(error, HF_HUB_OFFLINE):
            raise StageError(Reason.MODEL_NOT_FOUND, f"{source.name} can't be loaded: {fault}") from error
        raise
    return LoadedModel(model, tokenizer, max_length)


def longest_row(wanted: int, context: int | None) -> int:
    """Tokens that a row may have: ``wanted``, or the model's context (None where it names none) if that is shorter.

    For more than its context Unsloth would stretch the model's positions, and nobody who loads the adapter knows.
    """
    return min(wanted, context or wanted)


def _context(source: ModelSource) -> int | None:
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            source.name, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:
        if fault := config_fault(error, HF_HUB_OFFLINE):
            raise StageError(Reason.MODEL_NOT_FOUND, f"{source.name} can't be loaded: {fault}") from error
        raise
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def add_adapter(base: LoadedModel, lora: LoraSpec, checkpointing: Checkpointing, source: ModelSource) -> Any:
    """Puts a LoRA adapter on the base model, in place. Raises StageError (InvalidSpec) for a target it can't have."""
    from unsloth import FastLanguageModel

    _check_targets(base.model, lora.target_modules)
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
    check_trained_types(model, lora)
    settings = model.peft_config["default"]
    # What the saved adapter says about its base: the name that the evaluation and PEFT load, not a cache path.
    settings.base_model_name_or_path, settings.revision = source.name, source.revision
    if isinstance(settings.target_modules, set):  # a set is saved in another order by each process
        settings.target_modules = sorted(settings.target_modules)
    return model


def _check_targets(model: Any, targets: list[str]) -> None:
    """Raises StageError (InvalidSpec) for a target that is no linear layer inside the model.

    Embeddings and norms Unsloth would train whole, and write outside of the adapter.
    """
    import torch

    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module not in ends  # bitsandbytes' Linear4bit is one
    }
    if missing := [target for target in targets if target.rpartition(".")[2] not in linear]:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.lora.targetModules: the model has no linear layer {', '.join(missing)}; it has "
            f"{', '.join(sorted(linear))}",
        )


def check_trained_types(model: Any, lora: LoraSpec) -> None:
    """Raises StageError (InvalidSpec) when biases would be trained in float16: their gradients can't be scaled.

    A cast would not last: bitsandbytes puts a bias back into the type of its layer's input.
    """
    import torch

    if any(parameter.requires_grad and parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.lora.bias {lora.bias}: float16 can't train this model's biases; set None, or use bfloat16",
        )
