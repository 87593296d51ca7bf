"""Log-likelihoods of the continuations of prompts, from a model, in one of two ways.

:func:`shared_prompts` passes each prompt once and repeats its cache for the continuations, which takes a cache of keys
and values only. :func:`whole_sequences` passes a prompt with each of its continuations, padded at the right, where
neither attention nor a recurrent state sees it: it works for every causal model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from finetune_trainer.evaluation.outcome import Table
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.models.protocols import CausalLM

# Logits that exist at a time, rows x tokens x vocabulary: a quarter of a gigabyte in 32 bit.
MAX_LOGITS = 2**26

Way = Callable[[CausalLM, Sequence[Question], int], Table]


@torch.inference_mode()
def has_repeatable_cache(model: CausalLM) -> bool:
    """Whether what a model keeps of a prompt is keys and values alone, which can be repeated and padded at the left.

    States of recurrent and convolutional layers (Mamba, Qwen3-Next, LFM2) can't. One token is passed to see.
    """
    output = model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=True)
    cache: Any = getattr(output, "past_key_values", None)
    # By exact type: a subclass may keep states of its own.
    if type(cache) is not DynamicCache:
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def pad_left(sequences: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (rows, longest). Padding goes left: the last column is the last token."""
    width = max(map(len, sequences))
    ids = torch.tensor([[pad_id] * (width - len(sequence)) + sequence for sequence in sequences])
    mask = torch.tensor([[0] * (width - len(sequence)) + [1] * len(sequence) for sequence in sequences])
    return ids, mask


def pad_right(sequences: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with the padding at the right."""
    width = max(map(len, sequences))
    ids = torch.tensor([sequence + [pad_id] * (width - len(sequence)) for sequence in sequences])
    mask = torch.tensor([[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences])
    return ids, mask


@torch.inference_mode()
def shared_prompts(model: CausalLM, questions: Sequence[Question], pad_id: int) -> Table:
    """Scores questions in one batch: a pass over the prompts, then one over their continuations of several tokens."""
    ids, mask = pad_left([question.prompt for question in questions], pad_id)
    first = _forward(model, ids, 1, attention_mask=mask, position_ids=_positions(mask), use_cache=True)
    next_token = first.logits[:, -1].float().log_softmax(-1)  # (rows, vocabulary)
    table = [
        [[value] for value in row[[ids[0] for ids in question.continuations]].tolist()]
        for question, row in zip(questions, next_token, strict=True)
    ]
    longer = [[ids for ids in question.continuations if len(ids) > 1] for question in questions]
    repeats = max(map(len, longer))
    if repeats == 0:
        return table
    # Those with fewer repeat their last one, to keep the batch rectangular; the repeats are never read.
    flat = [rows[min(index, len(rows) - 1)] if rows else [pad_id] for rows in longer for index in range(repeats)]
    first.past_key_values.batch_repeat_interleave(repeats)
    later = iter(_later(model, flat, mask.repeat_interleave(repeats, dim=0), first.past_key_values, pad_id))
    for question, values in zip(questions, table, strict=True):
        found = [next(later) for _ in range(repeats)]
        places = [index for index, ids in enumerate(question.continuations) if len(ids) > 1]
        for index, row in zip(places, found, strict=False):
            values[index] += row[: len(question.continuations[index]) - 1]
    return table


def _later(
    model: CausalLM, continuations: list[list[int]], mask: torch.Tensor, cache: DynamicCache, pad_id: int
) -> list[list[float]]:
    """Log-likelihoods of all but the first token of continuations, which follow the cached prompts.

    ``mask`` is that of the prompts. The tokens go through the model in pieces of at most MAX_LOGITS logits.
    """
    ids, present = pad_right(continuations, pad_id)
    rows, width = ids.shape
    mask = torch.cat([mask, present], dim=1)
    positions, cached = _positions(mask), mask.shape[1] - width
    step = max(1, MAX_LOGITS // (rows * vocabulary_of(model)))
    found = [torch.empty(rows, 0)]
    for start in range(0, width - 1, step):  # the last token predicts nothing that is scored
        end = min(start + step, width - 1)
        output = _forward(
            model,
            ids[:, start:end],
            end - start,
            attention_mask=mask[:, : cached + end],
            position_ids=positions[:, cached + start : cached + end],
            past_key_values=cache,
            use_cache=True,
        )
        pieces = zip(output.logits, ids[:, start + 1 : end + 1], strict=True)
        # Row by row: normalising all at once would hold the logits twice.
        found.append(torch.stack([_gather(logits, targets) for logits, targets in pieces]))
    return [list(map(float, row)) for row in torch.cat(found, dim=1)]


@dataclass
class _Sequence:
    """A prompt with one continuation, and the continuations that are read from it: itself and those it begins with."""

    ids: list[int]
    start: int  # where the prompt's last token stands, which predicts the first one of a continuation
    read: list[tuple[int, int, list[int]]] = field(default_factory=list)  # question, continuation, its tokens


@torch.inference_mode()
def whole_sequences(model: CausalLM, questions: Sequence[Question], pad_id: int) -> Table:
    """Scores questions in one batch of full sequences.

    A question alone goes through sequence by sequence, without padding, mask and cache: that is the plain pass, which
    the other ways are measured against.
    """
    sequences = [sequence for index, question in enumerate(questions) for sequence in _sequences(index, question)]
    table: Table = [[[] for _ in question.continuations] for question in questions]
    keep = max(len(sequence.ids) for sequence in sequences) - min(sequence.start for sequence in sequences)
    rows = 1 if len(questions) == 1 else max(1, MAX_LOGITS // (keep * vocabulary_of(model)))
    for first in range(0, len(sequences), rows):
        part = sequences[first : first + rows]
        ids, mask = pad_right([sequence.ids for sequence in part], pad_id)
        padded = {} if len(part) == 1 else {"attention_mask": mask}
        keep = ids.shape[1] - min(sequence.start for sequence in part)
        logits = _forward(model, ids, keep, use_cache=False, **padded).logits[:, -keep:]
        for row, sequence in zip(logits, part, strict=True):
            begin = sequence.start - (ids.shape[1] - keep)
            for question, continuation, targets in sequence.read:
                piece = row[begin : begin + len(targets)]
                table[question][continuation] = list(map(float, _gather(piece, torch.tensor(targets))))
    return table


def _sequences(index: int, question: Question) -> list[_Sequence]:
    """The sequences that a question needs. One serves several continuations: all of one token, for instance."""
    found: list[_Sequence] = []
    start = len(question.prompt) - 1
    by_length = sorted(enumerate(question.continuations), key=lambda item: -len(item[1]))
    for place, ids in by_length:
        context = question.prompt + ids[:-1]
        carrier = next((one for one in found if one.ids[: len(context)] == context), None)
        if carrier is None:
            carrier = _Sequence(question.prompt + ids, start)
            found.append(carrier)
        carrier.read.append((index, place, ids))
    return found


def _gather(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (tokens) of the targets (tokens) from logits (tokens, vocabulary), on the CPU.

    In pieces, as a long response's logits normalised at once would be there twice.
    """
    step = max(1, MAX_LOGITS // logits.shape[-1])
    pieces = zip(torch.split(logits, step), torch.split(targets.to(logits.device).unsqueeze(1), step), strict=True)
    return torch.cat([piece.float().log_softmax(-1).gather(1, ids).squeeze(1) for piece, ids in pieces]).cpu()


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def vocabulary_of(model: CausalLM) -> int:
    """Logits per token."""
    return int(model.config.get_text_config().vocab_size)


def _forward(model: CausalLM, ids: torch.Tensor, keep: int, **arguments: Any) -> Any:
    """The model's output with the logits of the last ``keep`` tokens. What its forward() doesn't know is left out.

    Bloom, for one, takes its positions from the mask alone.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    known = inspect.signature(inner.forward).parameters
    arguments = {"logits_to_keep": keep, **{name: _on(value, model) for name, value in arguments.items()}}
    usable = {name: value for name, value in arguments.items() if name != "position_ids" or name in known}
    if "logits_to_keep" not in known:
        del usable["logits_to_keep"]
    return model(input_ids=ids.to(model.device), **usable)


def _on(value: Any, model: CausalLM) -> Any:
    return value.to(model.device) if isinstance(value, torch.Tensor) else value
