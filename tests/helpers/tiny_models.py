"""Random models of many architectures, two layers each, with SmolLM2's tokenizer. Import it after Unsloth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
OWN_NAMES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "mistral": COMMON,
    "qwen2": COMMON,
    "qwen3": {**COMMON, "head_dim": 16},
    "qwen3_moe": {**COMMON, "head_dim": 16, **EXPERTS},
    "phi3": COMMON,
    "gemma": {**COMMON, "head_dim": 16},
    "gemma3_text": {**COMMON, "head_dim": 16, "sliding_window": 64},
    "lfm2": {**COMMON, "layer_types": ["conv", "full_attention"]},
    "gpt_neox": {key: value for key, value in COMMON.items() if key != "num_key_value_heads"},
    "falcon": OWN_NAMES,
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "opt": {**OWN_NAMES, "ffn_dim": 128, "max_position_embeddings": 512, "word_embed_proj_dim": 64},
}


def make_model(kind: str, tokenizer_folder: Path, folder: Path, seed: int = 0) -> Path:
    """Writes a random model of an architecture to a folder that ``from_pretrained`` loads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SETTINGS[kind], **ends)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zeros would hide a bias that is lost
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_multimodal(tokenizer_folder: Path, folder: Path) -> Path:
    """Writes a random Gemma 3 that sees, with its processor."""
    from transformers import (
        AutoTokenizer,
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
    )

    image = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, extra_special_tokens=image)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in image.items()}
    text = {**SETTINGS["gemma3_text"], "vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    images = Gemma3ImageProcessor(size={"height": 28, "width": 28})
    Gemma3Processor(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4).save_pretrained(
        folder
    )
    return folder
