"""A random Llama of a real one's shape, for what doesn't depend on the weights' values. Import it after Unsloth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Of the published config of Llama-3.2-1B; the vocabulary stays whole, though the tests' tokenizer uses half of it.
LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}
# For a try on a CPU.
SMALL = {**LLAMA_1B, "vocab_size": 49152, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


def tokenizer_folder() -> Path:
    """The tiny test model's folder, which `make models` makes; its tokenizer is SmolLM2's."""
    state = Path(os.environ.get("FINETUNE_STATE_DIR", "/var/lib/finetune-operator"))
    return state / "cache/models/tiny"


def save_random(shape: dict[str, Any], folder: Path, device: str) -> Path:
    """Writes the model in bfloat16, made on ``device``, and its tokenizer, for ``from_pretrained``."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder())
    torch.manual_seed(0)
    config = LlamaConfig(**shape, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
