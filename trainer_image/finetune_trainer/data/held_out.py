"""What of held-out rows is scored: responses behind the prompts that a server would send, and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example
from finetune_trainer.data.tokenize import LossOn, pair_ids, trained_turns
from finetune_trainer.stage.failure import StageError

# An evaluation that leaves out more than this share of its rows is refused: what is left is another dataset.
_MOST_DROPPED = 0.5


def scored_turns(example: Example, loss_on: LossOn) -> list[Example]:
    """The row itself, and of a conversation one example for each response that the loss may see, ending there."""
    if example.choices or example.text is not None:
        return [example]
    return [replace(example, messages=example.messages[: turn + 1]) for turn in trained_turns(example, loss_on)]


def keep_fitting(
    examples: Sequence[Example],
    chat: ChatFormat,
    limit: int | None,
    loss_on: LossOn = "Responses",
    what: str = "held-out rows",
) -> tuple[list[Example], int]:
    """The held-out examples that fit the model's context with all that is scored of them, and how many are left out.

    ``limit`` is the context in tokens, None where the model names none. Documents always fit: they are scored in
    windows. Left out, too, is a conversation of which ``loss_on`` sees no response. ``what`` is what messages call
    the rows. Raises StageError (DatasetInvalid) when more than half don't fit, or nothing is left.
    """
    turns = [(row, turn) for row, example in enumerate(examples) for turn in scored_turns(example, loss_on)]
    scored = [examples[row] for row in dict.fromkeys(row for row, _ in turns)]
    if not scored:
        raise StageError(
            Reason.DATASET_INVALID,
            f"none of {len(examples)} {what} has a response that spec.training.lossOn {loss_on} would see",
            "take rows whose assistant's turns may be trained on",
        )
    if limit is None:
        return scored, len(examples) - len(scored)
    lengths = dict.fromkeys((row for row, _ in turns), 0)
    turns = [(row, turn) for row, turn in turns if turn.text is None]
    for (row, _), length in zip(turns, _lengths([turn for _, turn in turns], chat), strict=True):
        lengths[row] = max(lengths[row], length)
    _refuse_many(list(lengths.values()), limit, what)
    kept = [example for example, length in zip(scored, lengths.values(), strict=True) if length <= limit]
    return kept, len(examples) - len(kept)


def _refuse_many(lengths: list[int], limit: int, what: str) -> None:
    dropped = sum(length > limit for length in lengths)
    if dropped > _MOST_DROPPED * len(lengths):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{dropped} of {len(lengths)} {what} are longer than the model's context of {limit} tokens (the "
            f"shortest has {min(lengths)}); at most {_MOST_DROPPED:.0%} may be dropped",
            "shorten the rows, or take a model with a longer context",
        )


def _lengths(turns: Sequence[Example], chat: ChatFormat) -> list[int]:
    """Tokens of each turn's prompt with its longest response."""
    with_choices = [turn for turn in turns if turn.choices]
    prompts = iter(chat.prompt_ids([turn.prompt for turn in with_choices]))
    pairs = iter(pair_ids([turn for turn in turns if not turn.choices], chat))
    lengths = []
    for turn in turns:
        if turn.choices:
            responses = chat.response_ids([choice.response for choice in turn.choices.options])
            lengths.append(len(next(prompts)) + max(map(len, responses)))
        else:
            lengths.append(sum(map(len, next(pairs))))
    return lengths
