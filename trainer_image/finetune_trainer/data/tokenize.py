"""From examples to token ids and labels: the loss sees the response and its terminator, and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.conversations import (
    assistant_turns,
    last_turn,
    token_turns,
    whole_conversation,
    with_reasoning,
)
from finetune_trainer.data.example import Example
from finetune_trainer.stage.failure import StageError

IGNORED = -100  # PyTorch's cross entropy leaves this label out
LossOn = Literal["Responses", "LastResponse", "All"]
# Why an example has no row.
TOO_LONG, NO_RESPONSE = "TooLong", "NoResponse"
_SAMPLE_LENGTH = 4000  # characters


@dataclass(frozen=True)
class TokenRow:
    """One row as the trainer wants it: two lists of equal length."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Tokenised:
    """What became of an example: its rows, or why there are none."""

    rows: tuple[TokenRow, ...]
    problem: str | None = None  # TOO_LONG or NO_RESPONSE


def tokenise(examples: Sequence[Example], chat: ChatFormat, limit: int, loss_on: LossOn) -> list[Tokenised]:
    """Token ids and labels of examples; an example that has no row within ``limit`` tokens says why.

    A conversation gives one row, or one for each turn that the loss sees where a server would see its beginning
    otherwise. A document longer than the limit is split into rows that lose nothing. Raises StageError (InvalidSpec)
    for a template that can't print the messages.
    """
    longest = limit * chat.encoder.longest_word
    found: dict[int, Tokenised] = {}
    conversations = {}
    for place, example in enumerate(examples):
        if example.text is not None:
            found[place] = _within(_document_rows(chat.text_ids(example.text, example.ends), limit), limit)
        elif sum(len(message.content) for message in example.messages) > longest:
            found[place] = Tokenised((), TOO_LONG)
        else:
            messages = tuple(with_reasoning(message) for message in example.messages)
            conversations[place] = replace(example, messages=messages)
    for place, rows in zip(conversations, _rows_of(list(conversations.values()), chat, loss_on), strict=True):
        found[place] = _within(rows, limit)
    return [found[place] for place in range(len(examples))]


def _within(rows: Sequence[TokenRow], limit: int) -> Tokenised:
    # The first token of a row has nothing before it to be predicted from.
    seen = [row for row in rows if any(label != IGNORED for label in row.labels[1:])]
    kept = tuple(row for row in seen if len(row.input_ids) <= limit)
    return Tokenised(kept, None if kept else TOO_LONG if seen else NO_RESPONSE)


def _document_rows(ids: list[int], limit: int) -> list[TokenRow]:
    parts = [ids[start : start + limit] for start in range(0, len(ids), limit)]
    return [TokenRow(part, list(part)) for part in parts]


def _rows_of(examples: Sequence[Example], chat: ChatFormat, loss_on: LossOn) -> list[list[TokenRow]]:
    """The rows of each conversation. Those that can be read whole are; of the others each turn is read by itself."""
    rows: list[list[TokenRow]] = [[] for _ in examples]
    wanted = [trained_turns(example, loss_on) for example in examples]
    wholes = {
        place: whole
        for place, (example, turns) in enumerate(zip(examples, wanted, strict=True))
        if _sees_several(example, turns, loss_on) and (whole := whole_conversation(example, chat))
    }
    encoded = chat.encoder.encode([whole.pieces for whole in wholes.values()])
    for (place, whole), ids in zip(wholes.items(), encoded, strict=True):
        if spans := token_turns(whole, ids, chat):
            rows[place] = [_marked(ids, spans, wanted[place], loss_on, chat)]
    alone = [(place, turn) for place, turns in enumerate(wanted) if not rows[place] for turn in turns]
    endings = [replace(examples[place], messages=examples[place].messages[: turn + 1]) for place, turn in alone]
    for (place, turn), (prompt, response) in zip(alone, _pairs(endings, chat), strict=True):
        sees_prompt = loss_on == "All" and turn == wanted[place][-1]
        labels = (prompt if sees_prompt else [IGNORED] * len(prompt)) + response
        rows[place].append(TokenRow(prompt + response, labels))
    return rows


def trained_turns(example: Example, loss_on: LossOn) -> list[int]:
    """Indices of the assistant's messages that the loss may see."""
    turns = assistant_turns(example.messages)
    chosen = turns[-1:] if loss_on == "LastResponse" else turns
    return [turn for turn in chosen if example.messages[turn].train]


def _sees_several(example: Example, turns: list[int], loss_on: LossOn) -> bool:
    """Whether the loss sees more of a conversation than its end, or everything but a turn."""
    everything = loss_on == "All" and turns == assistant_turns(example.messages)
    return bool(turns) and turns != [len(example.messages) - 1] and not everything


def _marked(
    ids: list[int], spans: Mapping[int, tuple[int, int]], turns: list[int], loss_on: LossOn, chat: ChatFormat
) -> TokenRow:
    """The row of a whole conversation, up to the end of the last turn that counts."""
    labels = list(ids) if loss_on == "All" else [IGNORED] * len(ids)
    for turn, (start, end) in spans.items():
        labels[start:end] = ids[start:end] if turn in turns else [IGNORED] * (end - start)
    end = len(ids) if loss_on == "All" else spans[turns[-1]][1]
    with_bos = chat.with_bos(ids[:end])
    bos = with_bos[: len(with_bos) - end]
    return TokenRow(with_bos, (bos if loss_on == "All" else [IGNORED] * len(bos)) + labels[:end])


def pair_ids(examples: Sequence[Example], chat: ChatFormat) -> list[tuple[list[int], list[int]]]:
    """Token ids of the prompt before each conversation's last message, and of what the model has to write then."""
    return _pairs([replace(one, messages=tuple(map(with_reasoning, one.messages))) for one in examples], chat)


def _pairs(examples: Sequence[Example], chat: ChatFormat) -> list[tuple[list[int], list[int]]]:
    pieces = [last_turn(example, chat) for example in examples]
    prompts = chat.prompt_ids_of([prompt for prompt, _ in pieces])
    return list(zip(prompts, chat.response_ids_of([response for _, response in pieces]), strict=True))


def check_labels(rows: Sequence[TokenRow], chat: ChatFormat, said: Sequence[Sequence[str]]) -> None:
    """Raises StageError (InvalidSpec) unless the loss sees what the assistant ``said`` in each row.

    Letters and digits are compared after decoding, since a tokenizer may normalise.
    """
    for number, (row, texts) in enumerate(zip(rows, said, strict=True), start=1):
        seen = _letters(chat.decode([label for label in row.labels if label != IGNORED]))
        for text in texts:
            if _letters(chat.decode(chat.encoder.plain_ids([text])[0])) not in seen:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"row {number}: the loss would see {cut(seen, 200)!r}, which lacks {cut(text, 200)!r}; check "
                    "spec.model.chatTemplate",
                )


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


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


def _printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else cut(text, length // 2) + text[-length // 2 :]
