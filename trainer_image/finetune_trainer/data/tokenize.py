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
)
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.reasoning import with_reasoning
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
    found: dict[int, Tokenised] = {}
    texts = [(place, example) for place, example in enumerate(examples) if example.text is not None]
    all_ids = chat.texts_ids([(example.response, example.ends) for _, example in texts])
    for (place, _), ids in zip(texts, all_ids, strict=True):
        found[place] = _within(_document_rows(ids, limit), limit)
    conversations = []
    for place, example in enumerate(examples):
        if place not in found and not trained_turns(example, loss_on):
            found[place] = Tokenised((), NO_RESPONSE)
        elif place not in found and _is_hopeless(example, limit * chat.encoder.longest_word):
            found[place] = Tokenised((), TOO_LONG)
        elif place not in found:
            conversations.append(place)
    rows = _rows_of([examples[place] for place in conversations], chat, loss_on)
    for place, one in zip(conversations, rows, strict=True):
        found[place] = _within(one, limit)
    return [found[place] for place in range(len(examples))]


def _is_hopeless(example: Example, longest: int) -> bool:
    """Whether a conversation has more text than any tokens within the limit can stand for.

    Reasoning doesn't count, since templates drop it from earlier turns; what is long for it alone is told by its ids.
    """
    if sum(len(message.content) for message in example.messages) <= longest:
        return False
    return sum(len(with_reasoning(message).content.strip()) for message in example.messages) > longest


def _within(rows: Sequence[TokenRow], limit: int) -> Tokenised:
    if any(len(row.input_ids) > limit for row in rows):
        return Tokenised((), TOO_LONG)  # a conversation is trained on with all its turns, or left out
    # The first token of a row has nothing before it to be predicted from.
    seen = tuple(row for row in rows if row.labels[1:].count(IGNORED) < len(row.labels) - 1)
    return Tokenised(seen, None if seen else NO_RESPONSE)


def _document_rows(ids: list[int], limit: int) -> list[TokenRow]:
    """Consecutive rows that hold all tokens; none is left with a single one, which nothing could be predicted in."""
    starts = list(range(0, len(ids), limit))
    if len(starts) > 1 and len(ids) - starts[-1] == 1:
        starts[-1] -= 1
    parts = [ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
    return [TokenRow(part, list(part)) for part in parts]


def _rows_of(examples: Sequence[Example], chat: ChatFormat, loss_on: LossOn) -> list[list[TokenRow]]:
    """The rows of each conversation. Those that can be read whole are; of the others each turn is read by itself."""
    rows: list[list[TokenRow]] = [[] for _ in examples]
    wanted = [trained_turns(example, loss_on) for example in examples]
    wholes = {place: whole for place, example in enumerate(examples) if (whole := whole_conversation(example, chat))}
    encoded = chat.encoder.encode_marked([whole.pieces for whole in wholes.values()])
    all_spans = token_turns(list(wholes.values()), encoded, chat)
    for place, (ids, _), spans in zip(wholes, encoded, all_spans, strict=True):
        if spans:
            sees_all = loss_on == "All" and _may_be_seen(examples[place])
            rows[place] = [_marked(ids, spans, wanted[place], sees_all, chat)]
    alone = [(place, turn) for place, turns in enumerate(wanted) if not rows[place] for turn in turns]
    pairs = pair_ids([_ending(examples[place], turn) for place, turn in alone], chat)
    for (place, turn), (prompt, response) in zip(alone, pairs, strict=True):
        # What the loss sees of the prompts it sees once, and nowhere if a turn in there is not to be seen.
        sees_prompt = loss_on == "All" and turn == assistant_turns(examples[place].messages)[-1]
        sees_prompt &= all(message.train for message in examples[place].messages)
        labels = (prompt if sees_prompt else [IGNORED] * len(prompt)) + response
        rows[place].append(TokenRow(prompt + response, labels))
    return rows


def _may_be_seen(example: Example) -> bool:
    """Whether the loss may see what isn't the assistant's: it can't be told apart further, so all of it or nothing."""
    return all(message.train for message in example.messages if message.role != ASSISTANT)


def _ending(example: Example, turn: int) -> Example:
    return replace(example, messages=example.messages[: turn + 1])


def trained_turns(example: Example, loss_on: LossOn) -> list[int]:
    """Indices of the assistant's messages that the loss may see."""
    turns = assistant_turns(example.messages)
    chosen = turns[-1:] if loss_on == "LastResponse" else turns
    return [turn for turn in chosen if example.messages[turn].train]


def _marked(
    ids: list[int], spans: Mapping[int, tuple[int, int]], turns: list[int], sees_all: bool, chat: ChatFormat
) -> TokenRow:
    """The row of a whole conversation, up to the end of the last turn that counts."""
    labels = list(ids) if sees_all else [IGNORED] * len(ids)
    for turn, (start, end) in spans.items():
        labels[start:end] = ids[start:end] if turn in turns else [IGNORED] * (end - start)
    end = len(ids) if sees_all else spans[turns[-1]][1]
    with_bos = chat.with_bos(ids[:end])
    bos = with_bos[: len(with_bos) - end]
    return TokenRow(with_bos, (bos if sees_all else [IGNORED] * len(bos)) + labels[:end])


def pair_ids(examples: Sequence[Example], chat: ChatFormat) -> list[tuple[list[int], list[int]]]:
    """Token ids of the prompt before each conversation's last message, and of what the model has to write then."""
    pieces = [last_turn(example, chat) for example in examples]
    prompts = chat.prompt_ids_of([prompt for prompt, _ in pieces])
    return list(zip(prompts, chat.response_ids_of([response for _, response in pieces]), strict=True))


def check_labels(
    examples: Sequence[Example], tokenised: Sequence[Tokenised], chat: ChatFormat, loss_on: LossOn
) -> None:
    """Raises StageError (InvalidSpec) unless the loss sees every response behind the prompt that a server would send.

    Each response is read by itself once more, so give it some of the rows. Ids are compared, and after decoding
    letters and digits, since a tokenizer may normalise.
    """
    for number, (example, found) in enumerate(zip(examples, tokenised, strict=True), start=1):
        if example.text is None and found.rows:
            turns = trained_turns(example, loss_on)
            pairs = pair_ids([_ending(example, turn) for turn in turns], chat)
            rows = found.rows if len(found.rows) == len(turns) else found.rows * len(turns)
            for turn, pair, row in zip(turns, pairs, rows, strict=True):
                _check_turn(row, pair, example.messages[turn], chat, example.where or f"row {number}")


def _check_turn(
    row: TokenRow, pair: tuple[list[int], list[int]], message: Message, chat: ChatFormat, where: str
) -> None:
    prompt, response = pair
    start, end = len(prompt), len(prompt) + len(response)
    seen = [label for label in row.labels[start:end] if label != IGNORED]
    before, after = row.labels[start - 1 : start], row.labels[end : end + 1]
    apart = row.labels == row.input_ids or not any(label != IGNORED for label in [*before, *after])
    text = _letters(chat.decode(seen))
    said = _letters(chat.decode(chat.encoder.plain_ids([with_reasoning(message).content])[0]))
    if row.input_ids[:end] != prompt + response or seen != response or said not in text or not apart:
        raise StageError(
            Reason.INVALID_SPEC,
            f"{where}: the loss would see {cut(text, 200)!r} where the assistant says {cut(message.content, 200)!r}",
            "check spec.model.chatTemplate, and apply under a new name",
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
