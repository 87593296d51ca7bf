"""Random models of two or three layers, one of each kind of attention, positions, experts and states."""

from __future__ import annotations

from typing import Any

VOCABULARY = 512
CONTEXT = 160
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,  # the usual 0.02 leaves the logits of so small a model near zero
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 16}
OWN_NAMES = {"vocab_size": VOCABULARY, "initializer_range": 0.2}

# By name: the model type in transformers' words, and its configuration.
ATTENTION: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", GROUPED),
    "Mistral, sliding window": ("mistral", {**GROUPED, "sliding_window": 8}),
    "Qwen2": ("qwen2", GROUPED),
    "Qwen3": ("qwen3", HEADS),
    "Qwen3-MoE": ("qwen3_moe", {**HEADS, **EXPERTS}),
    "Mixtral": ("mixtral", {**GROUPED, "num_local_experts": 4}),
    "Gemma2": ("gemma2", {**HEADS, "sliding_window": 8}),
    "Gemma3, alternating": ("gemma3_text", {**HEADS, "num_hidden_layers": 6, "sliding_window": 8}),
    "Phi-3": ("phi3", {**GROUPED, "pad_token_id": 0}),
    "GPT-2": ("gpt2", {**OWN_NAMES, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
    "OPT": (
        "opt",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "ffn_dim": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            "init_std": 0.2,
        },
    ),
    "GPT-NeoX": ("gpt_neox", SIZES),
    "Falcon": ("falcon", {**OWN_NAMES, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "Bloom": ("bloom", {**OWN_NAMES, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "MPT": ("mpt", {**OWN_NAMES, "d_model": 64, "n_layers": 2, "n_heads": 4}),
    "Llama 4, chunked": (
        "llama4_text",
        {**HEADS, "num_local_experts": 2, "intermediate_size_mlp": 96, "attention_chunk_size": 8},
    ),
    "DeepSeek-V3": (
        "deepseek_v3",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
}
# What keeps more of a prompt than keys and values.
STATES: dict[str, tuple[str, dict[str, Any]]] = {
    "LFM2": ("lfm2", {**GROUPED, "layer_types": ["conv", "full_attention"]}),
    "Qwen3-Next": ("qwen3_next", {**HEADS, **EXPERTS, **LINEAR, "shared_expert_intermediate_size": 32}),
    "Qwen3.5": ("qwen3_5_text", {**HEADS, **LINEAR}),
    "Granite-4 hybrid": (
        "granitemoehybrid",
        {
            **GROUPED,
            **MAMBA,
            "num_local_experts": 0,
            "shared_intermediate_size": 96,
            "layer_types": ["mamba", "attention"],
        },
    ),
    "Falcon-H1": ("falcon_h1", {**GROUPED, **MAMBA, "mamba_d_ssm": 128}),
    "Bamba": ("bamba", {**GROUPED, **MAMBA, "attn_layer_indices": [1]}),
    "Mamba": ("mamba", {**OWN_NAMES, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
    "RWKV": (
        "rwkv",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "attention_hidden_size": 64},
    ),
    "Mamba2": (
        "mamba2",
        {
            **OWN_NAMES,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "state_size": 16,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 1,
            "chunk_size": 16,
        },
    ),
    "Jamba": (
        "jamba",
        {
            **GROUPED,
            "num_experts": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 8,
            "use_mamba_kernels": False,
        },
    ),
    "RecurrentGemma": (
        "recurrent_gemma",
        {**GROUPED, "num_hidden_layers": 3, "lru_width": 64, "attention_window_size": 8},
    ),
    "MiniMax": (
        "minimax",
        {**GROUPED, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention"]},
    ),
}


def build(name: str) -> Any:
    """The model in 32 bit and evaluation mode; the same weights each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, settings = (ATTENTION | STATES)[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **settings)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
