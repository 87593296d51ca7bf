"""What of held-out rows is scored: responses behind the prompts that a server would send, and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import ASSISTANT, Example
from finetune_trainer.stage.failure import StageError

LossOn = Literal["Responses", "LastResponse", "All"]
# An evaluation that leaves out more than this share of its rows is refused: what is left is another dataset.
_MOST_DROPPED = 0.5


def scored_turns(example: Example, loss_on: LossOn) -> list[Example]:
    """The row itself, and of a conversation one example for each response that the loss may see, ending there."""
    if example.choices or example.text is not None:
        return [example]
    turns = turns_of(example)
    return turns[-1:] if loss_on == "LastResponse" else turns


def keep_fitting(
    examples: Sequence[Example], chat: ChatFormat, limit: int | None, loss_on: LossOn = "Responses"
) -> tuple[list[Example], int]:
    """The held-out examples that fit the model's context with all that is scored of them, and how many don't.

    ``limit`` is the context in tokens, None where the model names none. Documents always fit: they are scored in
    windows. Raises StageError (DatasetInvalid) when more than half don't fit.
    """
    if limit is None:
        return list(examples), 0
    turns = [(row, turn) for row, example in enumerate(examples) for turn in scored_turns(example, loss_on)]
    turns = [(row, turn) for row, turn in turns if turn.text is None]
    lengths = [0] * len(examples)
    for (row, _), length in zip(turns, _lengths([turn for _, turn in turns], chat), strict=True):
        lengths[row] = max(lengths[row], length)
    dropped = sum(length > limit for length in lengths)
    if not lengths or dropped > _MOST_DROPPED * len(lengths):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{dropped} of {len(lengths)} held-out rows are longer than the model's context of {limit} tokens (the "
            f"shortest has {min(lengths, default=0)}); at most {_MOST_DROPPED:.0%} may be dropped",
            "shorten the rows, or take a model with a longer context",
        )
    return [example for example, length in zip(examples, lengths, strict=True) if length <= limit], dropped


def _lengths(turns: Sequence[Example], chat: ChatFormat) -> list[int]:
    """Tokens of each turn's prompt with its longest response."""
    with_choices = [turn for turn in turns if turn.choices]
    prompts = iter(chat.prompt_ids([turn.prompt for turn in with_choices]))
    pairs = iter(response_pairs([turn for turn in turns if not turn.choices], chat))
    lengths = []
    for turn in turns:
        if turn.choices:
            responses = chat.response_ids([choice.response for choice in turn.choices.options])
            lengths.append(len(next(prompts)) + max(map(len, responses)))
        else:
            lengths.append(sum(map(len, next(pairs))))
    return lengths


def turns_of(example: Example) -> list[Example]:
    """One example for each assistant turn that the loss may see, ending there."""
    return [
        replace(example, messages=example.messages[: place + 1])
        for place, message in enumerate(example.messages)
        if message.role == ASSISTANT and message.train
    ]


def response_pairs(turns: Sequence[Example], chat: ChatFormat) -> list[tuple[list[int], list[int]]]:
    """Token ids of each turn's prompt and of its response, with lead and terminator."""
    prompts = chat.prompt_ids([turn.prompt for turn in turns])
    return list(zip(prompts, chat.response_ids([turn.response for turn in turns]), strict=True))
