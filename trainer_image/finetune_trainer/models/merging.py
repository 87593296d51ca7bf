"""An adapter merged into its base model in 16 bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finetune_trainer.models.loading import load_base
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device


def merged(source: ModelSource, attach: Callable[[CausalLM], CausalLM], device: Device) -> CausalLM:
    """The base model, loaded in 16 bit (a CPU: 32), with the adapter that ``attach`` puts on it in its weights.

    W + scaling B A is added up in 32 bit and rounded once. A base that trained in NF4 was another one by what NF4
    rounds away, so the merged model is not the trained one to the digit: it is compared as what it is.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    model: Any = attach(load_base(source, device, quantised=False))
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                for name in layer.active_adapters:
                    weight.copy_((weight.float() + layer.get_delta_weight(name).float()).to(weight.dtype))
    plain: CausalLM = model.unload()
    return plain
