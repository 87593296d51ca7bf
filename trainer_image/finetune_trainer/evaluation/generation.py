"""Greedy answers in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from transformers import GenerationConfig

from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.evaluation.batching import in_batches
from finetune_trainer.evaluation.likelihood import has_repeatable_cache, pad_left
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.precision import wide_head
from finetune_trainer.evaluation.questions import Size
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.protocols import Tokenizer


@torch.inference_mode()
def answer(
    model: CausalLM,
    prompts: Sequence[list[int]],
    chat: ChatFormat,
    pad_id: int,
    max_new_tokens: int,
    token_budget: int,
    context: int | None = None,
) -> list[Generated]:
    """Answers each prompt (token ids) greedily, up to a stop token, ``max_new_tokens`` or the ``context``, in order.

    Nothing of the model's own generation_config applies, such as a repetition_penalty or suppressed tokens: what is
    written is the likeliest next token each time. Batches are padded at the left, unless the model keeps recurrent
    states, which padding would change: such a model answers one prompt at a time.
    """
    if not prompts:
        return []

    def answer_batch(batch: list[int]) -> list[Generated]:
        ids, mask = pad_left([prompts[index] for index in batch], pad_id)
        room = max_new_tokens if context is None else min(max_new_tokens, max(1, context - ids.shape[1]))
        greedy = GenerationConfig(
            max_new_tokens=room, do_sample=False, eos_token_id=list(chat.stop_ids), pad_token_id=pad_id
        )
        with own_generation_config(model, greedy):
            output = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
        return [_generated(row, chat) for row in output[:, ids.shape[1] :].tolist()]

    sizes = [Size(len(prompt), max_new_tokens) for prompt in prompts]
    budget = token_budget if has_repeatable_cache(model) else 1
    with wide_head(model):
        return in_batches(answer_batch, sizes, budget)


@contextmanager
def own_generation_config(model: CausalLM, config: GenerationConfig) -> Iterator[None]:
    """Inside, ``config`` stands in place of the model's own, which would fill in whatever generate() is not told."""
    owner = model.get_base_model() if isinstance(model, PeftModel) else model
    before = owner.generation_config
    owner.generation_config = config
    try:
        yield
    finally:
        owner.generation_config = before


def _generated(ids: list[int], chat: ChatFormat) -> Generated:
    """Reads the tokens up to the first stop token; behind it stands padding."""
    end = next((index for index, token in enumerate(ids) if token in chat.stop_ids), None)
    text = chat.tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Generated(spoken(text, chat.lead, chat.tokenizer), cut=end is None)


def spoken(text: str, lead: str, tokenizer: Tokenizer) -> str:
    """What an answer says: behind the last lead of the template, where there is one, and without special tokens.

    ``lead`` is what the template itself puts between its generation prompt and an answer, such as an empty block of
    thoughts. A model that thinks first, without a lead, has its thoughts taken away up to ``</think>``.
    """
    # Some tokenizers decode spaces around special tokens.
    marks = r"\s*".join(map(re.escape, "".join(lead.split())))
    text = re.split(f"{marks}|</think>" if marks else "</think>", text)[-1]
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, "")
    return text.strip()
