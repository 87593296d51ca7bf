"""Loads base model and adapter for evaluation, once: with the adapter off it is the base model.

Plain transformers and PEFT, as anyone who uses the adapter would load it: what is measured is what was shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from finetune_trainer.device import Device
from finetune_trainer.source import ModelSource


def load_tuned(source: ModelSource, adapter: Path, device: Device) -> tuple[Any, Any]:
    """The base model in NF4 with the adapter on top, in evaluation mode, and the tokenizer saved with the adapter."""
    dtype = getattr(torch, device.dtype)
    base = AutoModelForCausalLM.from_pretrained(
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
    model = PeftModel.from_pretrained(base, adapter).eval()
    return model, AutoTokenizer.from_pretrained(adapter)
