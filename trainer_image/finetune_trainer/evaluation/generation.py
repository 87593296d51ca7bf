"""Greedy answers in words, batched with left padding."""

from __future__ import annotations

from typing import Any

import torch

from finetune_trainer.data.chat_template import ChatFormat
from finetune_trainer.evaluation.batching import in_batches
from finetune_trainer.evaluation.likelihood import pad_left
from finetune_trainer.evaluation.questions import Size


@torch.inference_mode()
def answer(
    model: Any, prompts: list[list[int]], chat: ChatFormat, pad_id: int, max_new_tokens: int, token_budget: int
) -> list[str]:
    """Answers each prompt (token ids) greedily, up to a stop token or ``max_new_tokens``. Returns texts in order."""

    def answer_batch(batch: list[int]) -> list[str]:
        ids, mask = pad_left([prompts[index] for index in batch], pad_id)
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=list(chat.stop_ids),
            pad_token_id=pad_id,
        )
        answers = chat.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in answers]

    return in_batches(answer_batch, [Size(len(prompt), max_new_tokens) for prompt in prompts], token_budget)
