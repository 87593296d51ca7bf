"""From examples to token ids and labels: the loss sees the response and its terminator, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example
from finetune_trainer.stage.failure import StageError

IGNORED = -100  # PyTorch's cross entropy leaves this label out
# A run that leaves out more than this share of its rows is refused: what is left is another dataset.
MOST_DROPPED = 0.5
_SAMPLE_LENGTH = 4000  # characters
_CHECKED_ROWS = 16


@dataclass(frozen=True)
class TokenRow:
    """One row as the trainer wants it: two lists of equal length."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class TokenRows:
    """The rows that fit, and how many didn't."""

    rows: list[TokenRow]
    dropped: int
    sample: str  # the first row as text, what the loss sees in double brackets

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.input_ids) for row in self.rows)


def tokenise(
    examples: Sequence[Example], chat: ChatFormat, limit: int, loss_on: Literal["Responses", "All"]
) -> TokenRows:
    """Tokenises examples and drops those longer than ``limit`` tokens.

    Raises StageError: DatasetInvalid when more than half are dropped, InvalidSpec when the labels are not the
    responses' ids or when an id lies beyond the model's embedding.
    """
    prompts = chat.prompt_ids([example.prompt for example in examples])
    responses = chat.response_ids([example.response for example in examples])
    for number, example in enumerate(examples):
        if not example.prompt:  # mere text, outside of any conversation
            prompts[number], responses[number] = [], chat.text_ids(example.response)
    whole = [
        TokenRow(prompt + response, (prompt if loss_on == "All" else [IGNORED] * len(prompt)) + response)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    check_embedding(whole, chat)
    if loss_on == "Responses":
        check_labels(whole[:_CHECKED_ROWS], responses[:_CHECKED_ROWS], chat)
    kept = [row for row in whole if len(row.input_ids) <= limit]
    _refuse_many(
        [len(row.input_ids) for row in whole],
        limit,
        f"training rows are longer than {limit} tokens, spec.model.maxSequenceLength or the model's context",
        "raise maxSequenceLength, shorten the rows, or take a model with a longer context",
    )
    return TokenRows(kept, len(whole) - len(kept), sample_text(kept[0], chat))


def keep_fitting(examples: Sequence[Example], chat: ChatFormat, limit: int | None) -> tuple[list[Example], int]:
    """The held-out examples that fit the model's context with every option's response, and how many don't.

    ``limit`` is the context in tokens, None where the model names none. Raises StageError (DatasetInvalid) when more
    than half don't fit.
    """
    if limit is None:
        return list(examples), 0
    prompts = chat.prompt_ids([example.prompt for example in examples])
    lengths = [
        len(prompt) + max(map(len, chat.response_ids(_responses(example))))
        for example, prompt in zip(examples, prompts, strict=True)
    ]
    _refuse_many(
        lengths,
        limit,
        f"held-out rows are longer than the model's context of {limit} tokens",
        "shorten the rows, or take a model with a longer context",
    )
    kept = [example for example, length in zip(examples, lengths, strict=True) if length <= limit]
    return kept, len(lengths) - len(kept)


def check_labels(rows: list[TokenRow], responses: list[list[int]], chat: ChatFormat) -> None:
    """Raises StageError (InvalidSpec) unless the loss sees each response's ids, at the end of its row.

    Ids are compared, not text: a tokenizer that normalises decodes to other text.
    """
    for number, (row, response) in enumerate(zip(rows, responses, strict=True), start=1):
        seen = [label for label in row.labels if label != IGNORED]
        if seen != response or row.labels[-len(response) :] != row.input_ids[-len(response) :]:
            raise StageError(
                Reason.INVALID_SPEC,
                f"row {number}: the loss would see {chat.decode(seen)!r} instead of {chat.decode(response)!r}; check "
                "spec.model.chatTemplate",
            )


def check_embedding(rows: Sequence[TokenRow], chat: ChatFormat) -> None:
    """Raises StageError (InvalidSpec) when an id of a row lies beyond the model's embedding."""
    largest = max((id_ for row in rows for id_ in row.input_ids), default=0)
    chat.check_embedding(largest, f"token {chat.decode([largest])!r}")


def sample_text(row: TokenRow, chat: ChatFormat) -> str:
    """A row as text, with what the loss sees in double brackets, cut in its middle where it is long."""
    parts, start = [], 0
    while start < len(row.labels):
        is_seen = row.labels[start] != IGNORED
        end = start
        while end < len(row.labels) and (row.labels[end] != IGNORED) == is_seen:
            end += 1
        text = _printable(chat.decode(row.input_ids[start:end]))
        parts.append(f"⟦{text}⟧" if is_seen else text)
        start = end
    return "".join(_shortened(part, _SAMPLE_LENGTH // len(parts)) for part in parts)


def _responses(example: Example) -> list[str]:
    return [choice.response for choice in example.choices.options] if example.choices else [example.response]


def _refuse_many(lengths: list[int], limit: int, problem: str, advice: str) -> None:
    dropped = sum(length > limit for length in lengths)
    if not lengths or dropped > MOST_DROPPED * len(lengths):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{dropped} of {len(lengths)} {problem} (the shortest has {min(lengths, default=0)}); at most "
            f"{MOST_DROPPED:.0%} may be dropped",
            advice,
        )


def _printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else cut(text, length // 2) + text[-length // 2 :]
