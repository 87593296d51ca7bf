"""How fast a model answers one prompt at a time: to its first token, and from there on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import torch
from transformers import GenerationConfig

from finetune_trainer.evaluation.generation import own_generation_config
from finetune_trainer.evaluation.outcome import Latency
from finetune_trainer.models.protocols import CausalLM

Clock = Callable[[], float]  # seconds


@torch.inference_mode()
def measure_latency(
    model: CausalLM, prompts: Sequence[list[int]], pad_id: int, new_tokens: int, clock: Clock
) -> Latency:
    """Answers each prompt (token ids) with exactly ``new_tokens`` (at least 2) greedy tokens and takes the time.

    No stop token ends an answer, so that every model writes as much. Each prompt is answered twice, to its first token
    and to its last: the difference is the time of the tokens between. The first prompt is answered once before, since
    a model's first pass sets up kernels and memory.
    """

    def seconds(prompt: list[int], tokens: int) -> float:
        ids = torch.tensor([prompt]).to(model.device)
        config = GenerationConfig(
            max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=pad_id
        )
        with own_generation_config(model, config):
            begin = clock()
            # Bringing the tokens to the host waits for the device.
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids)).tolist()
            return clock() - begin

    seconds(prompts[0], new_tokens)
    first = [seconds(prompt, 1) for prompt in prompts]
    whole = [seconds(prompt, new_tokens) for prompt in prompts]
    speeds = [(new_tokens - 1) / (after - before) for before, after in zip(first, whole, strict=True) if after > before]
    return Latency(precision_of(model), median(first), median(speeds) if speeds else 0.0)


def precision_of(model: CausalLM) -> str:
    """How a model's weights are kept: NF4, or their type."""
    quantised = getattr(model.config, "quantization_config", None)
    return "NF4" if quantised is not None else str(model.dtype).removeprefix("torch.")
