"""The general engine: Unsloth's models under TRL's trainer.

Import this module before anything imports trl, transformers or peft: Unsloth changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from unsloth import FastLanguageModel  # isort: split

import torch

from finetune_api.lora import LoraSpec
from finetune_api.reasons import Reason
from finetune_trainer.models.adapter_targets import adapter_targets
from finetune_trainer.models.loading import check_shapes, checked_load, text_tokenizer
from finetune_trainer.models.methods import Method, Trainable
from finetune_trainer.models.protocols import AdapterModel, CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training.engines.base import Stepper, StepSettings
from finetune_trainer.training.engines.unsloth.trainer import UnslothStepper
from finetune_trainer.training.plan import Checkpointing

_BIAS = {"None": "none", "All": "all", "LoraOnly": "lora_only"}
_CHECKPOINTING: dict[Checkpointing, str | bool] = {"Unsloth": "unsloth", "Enabled": True, "Disabled": False}


class UnslothEngine:
    """See :class:`finetune_trainer.training.engines.base.Engine`."""

    name = "Unsloth"

    def load_base(
        self, source: ModelSource, max_length: int, device: Device, method: Method
    ) -> tuple[CausalLM, Tokenizer]:
        options = {} if method.adapter else {"full_finetuning": True}
        if not method.adapter and device.kind == "cuda":  # the CPU's backend knows no other, nor the argument
            options["float32_mixed_precision"] = True  # 16 bits would round small updates of the weights away
        with checked_load(source):
            model, tokenizer = FastLanguageModel.from_pretrained(
                model_name=source.name,
                revision=source.revision,
                token=source.token,
                max_seq_length=max_length,
                dtype=getattr(torch, device.dtype),
                load_in_4bit=method.quantised,
                use_exact_model_name=True,  # else Unsloth takes a repository of its own for a name it knows
                trust_remote_code=source.trust_remote_code,
                **options,
            )
        check_shapes(model, source)
        return cast(CausalLM, model), text_tokenizer(tokenizer, source)

    def trainable(self, checkpointing: Checkpointing) -> Trainable:
        return UnslothTrainable(checkpointing)

    def stepper(self, model: CausalLM, tokenizer: Tokenizer, settings: StepSettings) -> Stepper:
        return UnslothStepper(model, tokenizer, settings)


@dataclass(frozen=True)
class UnslothTrainable:
    """See :class:`finetune_trainer.models.methods.Trainable`."""

    checkpointing: Checkpointing

    def add_adapter(self, base: CausalLM, lora: LoraSpec, source: ModelSource) -> CausalLM:
        adapted: AdapterModel = FastLanguageModel.get_peft_model(
            base,
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=float(lora.dropout),
            bias=_BIAS[lora.bias],
            target_modules=adapter_targets(base, lora.target_modules),
            use_gradient_checkpointing=_CHECKPOINTING[self.checkpointing],
            use_rslora=bool(lora.rank_stabilized),
            random_state=lora.seed,
        )
        check_trained_types(adapted, lora)
        settings: Any = adapted.peft_config["default"]
        # What the saved adapter says about its base: the name that the evaluation and PEFT load, not a cache path.
        settings.base_model_name_or_path, settings.revision = source.name, source.revision
        if isinstance(settings.target_modules, set):  # a set is saved in another order by each process
            settings.target_modules = sorted(settings.target_modules)
        return adapted

    def train_weights(self, base: CausalLM) -> CausalLM:
        model: CausalLM = FastLanguageModel.for_training(
            base, use_gradient_checkpointing=_CHECKPOINTING[self.checkpointing]
        )
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return model


def check_trained_types(model: CausalLM, lora: LoraSpec) -> None:
    """Raises StageError (InvalidSpec) when biases would be trained in float16: their gradients can't be scaled.

    A cast would not last: bitsandbytes puts a bias back into the type of its layer's input.
    """
    if any(parameter.requires_grad and parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.lora.bias {lora.bias}: float16 can't train this model's biases; set None, or use bfloat16",
        )
