"""A saved adapter as anyone loads it: transformers and PEFT, nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class PlainPeft:
    """A base model in NF4 with an adapter on it, and the tokenizer saved beside the adapter."""

    def __init__(self, base: Path, adapter: Path) -> None:
        import torch
        from bitsandbytes.nn import Linear4bit
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        model = AutoModelForCausalLM.from_pretrained(base, quantization_config=quantised, dtype=torch.float32)
        for module in model.modules():  # 32 bit as told, also on a CPU where bitsandbytes would take bfloat16
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
        self.model: Any = PeftModel.from_pretrained(model, adapter)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(adapter)

    def answer(self, prompt: str, max_new_tokens: int) -> str:
        """What it says, greedily."""
        inputs = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        tokens = self.model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self.tokenizer.pad_token_id
        )
        text: str = self.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text.strip()
