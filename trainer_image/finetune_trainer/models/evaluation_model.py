"""Loads the base model for evaluation, and puts the adapter on it.

Plain transformers and PEFT, as anyone who uses the adapter would load it: what is measured is what was shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device


def load_base(source: ModelSource, device: Device) -> Any:
    """The base model in NF4, in evaluation mode."""
    dtype = getattr(torch, device.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        source.name,
        revision=source.revision,
        trust_remote_code=source.trust_remote_code,
        dtype=dtype,
        device_map={"": device.index},
        # As Unsloth quantises for training.
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    )
    return model.eval()


def load_tokenizer(adapter: Path) -> Any:
    """The tokenizer saved with the adapter."""
    return AutoTokenizer.from_pretrained(adapter)


def attach(base: Any, adapter: Path) -> Any:
    """The tuned model: ``base`` itself with the adapter on it, in evaluation mode.

    From then on ``base`` is lost, even with the adapter off: trained biases take the place of its own.
    """
    return PeftModel.from_pretrained(base, adapter).eval()
