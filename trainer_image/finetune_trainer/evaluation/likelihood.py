"""Scores multiple-choice questions by likelihood: one pass over each prompt, shared by all of its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from finetune_trainer.evaluation.batching import in_batches
from finetune_trainer.evaluation.questions import Question, Score, make_score

# Logits that exist at a time, rows x tokens x vocabulary: a quarter of a gigabyte in half precision.
MAX_LOGITS = 2**27


def score(
    model: Any,
    questions: list[Question],
    pad_id: int,
    token_budget: int,
    on_scored: Callable[[int], None] = lambda count: None,
) -> list[Score]:
    """Scores all questions in their order. ``on_scored`` gets the number of each batch's rows.

    Raises NotFiniteError when a likelihood is not finite, torch.OutOfMemoryError when one question alone is too large.
    """

    def score_batch(batch: list[int]) -> list[Score]:
        found = _score_batch(model, [questions[index] for index in batch], pad_id)
        on_scored(len(batch))
        return found

    return in_batches(score_batch, [question.size for question in questions], token_budget)


def pad_left(sequences: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (rows, longest). Padding goes left: the last column is the last token."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return ids, mask


@torch.inference_mode()
def _score_batch(model: Any, questions: list[Question], pad_id: int) -> list[Score]:
    ids, mask = pad_left([question.prompt for question in questions], pad_id)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    device = model.device
    first = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=True,
        logits_to_keep=1,
    )
    next_token = first.logits[:, -1].float().log_softmax(-1).cpu()  # (rows, vocabulary)
    tokens = _response_likelihoods(model, questions, first.past_key_values, mask, next_token, pad_id)
    return [
        make_score(question, row[question.letters].tolist(), likelihoods)
        for question, row, likelihoods in zip(questions, next_token, tokens, strict=True)
    ]


def _response_likelihoods(
    model: Any, questions: list[Question], cache: Any, mask: torch.Tensor, next_token: torch.Tensor, pad_id: int
) -> list[list[list[float]]]:
    """Log-likelihood of every token of every response: a list per question, per option, per token."""
    options = max(len(question.responses) for question in questions)
    # A question with fewer options repeats its first one, to keep the batch rectangular; the repeats are cut below.
    flat = [
        question.responses[index if index < len(question.responses) else 0]
        for question in questions
        for index in range(options)
    ]
    width = max(map(len, flat))
    ids = torch.tensor([response + [pad_id] * (width - len(response)) for response in flat])
    present = torch.tensor([[1] * len(response) + [0] * (width - len(response)) for response in flat])
    mask = mask.repeat_interleave(options, dim=0)
    cache.batch_repeat_interleave(options)
    later = _later_likelihoods(model, ids, torch.cat([mask, present], dim=1), cache, next_token.shape[-1])
    firsts = next_token.repeat_interleave(options, dim=0).gather(1, ids[:, :1])
    values = torch.cat([firsts, later], dim=1).tolist()
    per_response = [row[: len(response)] for row, response in zip(values, flat, strict=True)]
    return [
        per_response[start : start + len(question.responses)]
        for start, question in zip(range(0, len(flat), options), questions, strict=True)
    ]


def _later_likelihoods(model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any, vocabulary: int) -> torch.Tensor:
    """Log-likelihoods of all but the first of the tokens ``ids`` (rows, width), which follow the cached ones.

    ``mask`` covers cached and new tokens. The tokens go through the model in pieces of at most MAX_LOGITS logits.
    """
    rows, width = ids.shape
    cached = mask.shape[1] - width
    positions = mask[:, :cached].sum(-1, keepdim=True) + torch.arange(width)
    step = max(1, MAX_LOGITS // (rows * vocabulary))
    device = model.device
    found = [torch.empty(rows, 0)]
    for start in range(0, width - 1, step):  # the last token predicts nothing that is scored
        end = min(start + step, width - 1)
        logits = model(
            input_ids=ids[:, start:end].to(device),
            attention_mask=mask[:, : cached + end].to(device),
            position_ids=positions[:, start:end].to(device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        found.append(_gather(logits, ids[:, start + 1 : end + 1].to(logits.device)).cpu())
    return torch.cat(found, dim=1)


def _gather(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the targets, (rows, tokens), row by row: a float32 copy of all logits could be gigabytes."""
    chosen = [
        row.float().log_softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)
        for row, target in zip(logits, targets, strict=True)
    ]
    return torch.stack(chosen)
