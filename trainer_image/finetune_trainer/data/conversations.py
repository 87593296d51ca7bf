"""Where the assistant's turns of a conversation lie: in one rendering of the whole, or each behind a prompt of its own.

Turn k is what the template writes between the prompt that a server would send for the messages before it, and the
end of the turn in the conversation that ends there. Both are rendered. Where both are beginnings of the whole
conversation, one row holds all turns; a template that changes what came before (it drops earlier reasoning, say) gives
a row for each turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.encoding import Piece
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.stand_ins import StandIns
from finetune_trainer.stage.failure import StageError

_OPEN, _CLOSE = "<think>", "</think>"
_COMPARED = 64  # characters of a reasoning that must be found again in the rendering


@dataclass(frozen=True)
class Turn:
    """A turn of the assistant in a rendering, by characters."""

    start: int  # where the prompt ends
    end: int  # behind the token that ends the turn


@dataclass(frozen=True)
class Whole:
    """A conversation in one rendering."""

    text: str  # with stand-ins
    pieces: list[Piece]
    turns: dict[int, Turn]  # by the message's index


def with_reasoning(message: Message) -> Message:
    """The message with what it thinks at its beginning, between <think> and </think>, apart from what it says."""
    text = message.content.lstrip()
    if message.role != ASSISTANT or not text.startswith(_OPEN) or "reasoning_content" in message.extra:
        return message
    thought, closed, said = text.removeprefix(_OPEN).partition(_CLOSE)
    if not closed or not thought.strip():
        return message
    extra = {**message.extra, "reasoning_content": thought.strip()}
    return replace(message, content=said.strip(), extra=extra)


def assistant_turns(messages: Sequence[Message]) -> list[int]:
    """Indices of the assistant's messages."""
    return [place for place, message in enumerate(messages) if message.role == ASSISTANT]


class _Renderings:
    """A conversation's beginnings, as a server and as the template alone would write them."""

    def __init__(self, example: Example, chat: ChatFormat) -> None:
        self.chat, self.stand_ins = chat, StandIns(chat.encoder)
        self._turns = chat.template.hidden_turns(example.messages, self.stand_ins)
        self._tools: list[Mapping[str, Any]] = self.stand_ins.hide(list(example.tools))

    def prompt(self, place: int) -> str:
        """What a server sends for the messages before a place."""
        return self.chat.template.render_turns(self._turns[:place], generate=True, tools=self._tools)

    def said(self, place: int) -> str:
        """The text of a message as the template gets it, without white space around it."""
        return str(self._turns[place]["content"]).strip()

    def until(self, place: int) -> str:
        """The conversation that ends with the message at a place."""
        return self.chat.template.render_turns(self._turns[: place + 1], generate=False, tools=self._tools)


def whole_conversation(example: Example, chat: ChatFormat) -> Whole | None:
    """The conversation in one rendering with all turns of the assistant; None where a server would see it otherwise."""
    renderings, turns = _Renderings(example, chat), {}
    places = assistant_turns(example.messages)
    text = renderings.until(len(example.messages) - 1)
    for place in places:
        prompt = renderings.prompt(place)
        until = text if place == len(example.messages) - 1 else renderings.until(place)
        end = _end_of_turn(chat, until, len(prompt), renderings.said(place))
        if end is None or not (text.startswith(prompt) and text.startswith(until[:end])):
            return None
        if not _says_reasoning(example.messages[place], renderings, text[len(prompt) : end]):
            return None
        turns[place] = Turn(len(prompt), end)
    last = max(turn.end for turn in turns.values())
    return Whole(text[:last], renderings.stand_ins.pieces(text[:last]), turns)


def _end_of_turn(chat: ChatFormat, text: str, start: int, said: str) -> int | None:
    """Behind the token that ends the turn: the first after what is ``said``, or the last where only a tool is called.

    ``text`` is the conversation that ends with the turn, ``start`` where the turn begins. None where no token ends it.
    """
    place = text.rfind(said, start) if said else -1
    ends = [end for begin, end in chat.encoder.control_ends(text) if begin >= max(start, place + len(said))]
    return (ends[0] if place >= 0 else ends[-1]) if ends else None


def last_turn(example: Example, chat: ChatFormat) -> tuple[list[Piece], list[Piece]]:
    """The prompt before the last message, and what the model has to write then, with lead and end of turn.

    Raises StageError (InvalidSpec) where the template doesn't print the message's calls or its reasoning.
    """
    renderings, place = _Renderings(example, chat), len(example.messages) - 1
    message, prompt = example.messages[place], renderings.prompt(place)
    pieces = renderings.stand_ins.pieces
    if not message.extra:
        return pieces(prompt), chat.response_pieces(message.content)
    until = renderings.until(place)
    if until.startswith(prompt):
        end = _end_of_turn(chat, until, len(prompt), renderings.said(place))
        body = until[len(prompt) : end]
        if _says_reasoning(message, renderings, body):
            tail = [] if end else [Piece(chat.terminator, is_user=False)]
            return pieces(prompt), [*pieces(body), *tail]
    reasoning = message.extra.get("reasoning_content")
    if reasoning and "tool_calls" not in message.extra and prompt.rstrip().endswith(_OPEN):
        # The prompt opens the reasoning, which the template doesn't repeat: the model goes on inside of it.
        said = [Piece(reasoning, True), Piece(f"\n{_CLOSE}\n\n", False), Piece(message.content, True)]
        return pieces(prompt), [*said, Piece(chat.terminator, is_user=False)]
    what = "reasoning" if reasoning else "calls of tools"
    raise StageError(
        Reason.INVALID_SPEC,
        f"{example.where or 'a row'}: the chat template does not print the assistant's {what}, so that the loss would "
        "not see it",
        f"set spec.model.chatTemplate to a template that does, or take the {what} out of the rows; then apply under a "
        "new name",
    )


def _says_reasoning(message: Message, renderings: _Renderings, body: str) -> bool:
    reasoning = str(message.extra.get("reasoning_content", "")).strip()
    return reasoning[:_COMPARED].strip() in renderings.stand_ins.shown(body)


def token_turns(whole: Whole, ids: Sequence[int], chat: ChatFormat) -> dict[int, tuple[int, int]] | None:
    """Where the turns lie among the token ids of the whole conversation, BOS not counted, by the message's index.

    None where a prompt's tokens would be others without what follows it.
    """
    spans, places = chat.encoder.control_ends(whole.text), chat.encoder.control_positions(ids)
    if len(spans) != len(places):
        return None
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    found = {}
    for message, turn in whole.turns.items():
        last = bisect_left(starts, turn.start) - 1  # the last control token of the prompt
        final = bisect_left(ends, turn.end)
        if last < 0 or ends[final] != turn.end:
            return None
        context = chat.context_ids(whole.text[starts[last] : turn.start])
        begin = places[last] + len(context)
        if list(ids[places[last] : begin]) != context:
            return None
        found[message] = (begin, places[final] + 1)
    return found
