"""Where the assistant's turns of a conversation lie: in one rendering of the whole, or each behind a prompt of its own.

A turn is what the model has to write after the prompt that a server would send for the messages before it, up to the
token that ends the turn. Where all those prompts are beginnings of the whole conversation, one row holds all turns; a
template that changes what came before (it drops earlier reasoning, say) gives a row for each turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.encoding import Encoded, Piece
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.reasoning import CLOSE, FIELD, OPEN, reasoning_of, with_reasoning
from finetune_trainer.data.shapes import Shape
from finetune_trainer.data.stand_ins import StandIns
from finetune_trainer.stage.failure import StageError

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
    stand_ins: StandIns
    turns: dict[int, Turn]  # by the message's index

    @property
    def pieces(self) -> list[Piece]:
        """The rendering, told apart into the template's words and the row's."""
        return self.stand_ins.pieces(self.text)


def assistant_turns(messages: Sequence[Message]) -> list[int]:
    """Indices of the assistant's messages."""
    return [place for place, message in enumerate(messages) if message.role == ASSISTANT]


class _Renderings:
    """A conversation's beginnings, as a server and as the template alone would write them."""

    def __init__(self, example: Example, chat: ChatFormat) -> None:
        self.chat, self.stand_ins = chat, StandIns(chat.encoder)
        self.messages = [with_reasoning(message) for message in example.messages]
        chat.template.check_roles(self.messages, example.tools)
        self._turns = chat.template.hidden_turns(self.messages, self.stand_ins)
        self._tools: list[Mapping[str, Any]] = self.stand_ins.hide(list(example.tools))
        self.is_plain = not example.tools and not any(message.extra for message in self.messages)

    def prompt(self, place: int) -> str:
        """What a server sends for the messages before a place."""
        if not place:
            return ""
        return self.chat.template.render_turns(self._turns[:place], generate=True, tools=self._tools)

    def until(self, place: int) -> str:
        """The conversation that ends with the message at a place."""
        return self.chat.template.render_turns(self._turns[: place + 1], generate=False, tools=self._tools)

    def said(self, place: int) -> str:
        """What a message says, as the template prints it."""
        return self.chat.trimmed(str(self._turns[place]["content"]))

    def contents(self) -> list[list[str]]:
        """What the messages say, in two readings: of templates that print all as it is, and that trim all."""
        as_is = [str(turn["content"]) for turn in self._turns]
        trimmed = [text.strip() for text in as_is]
        return [as_is] if as_is == trimmed else [as_is, trimmed]


def whole_conversation(example: Example, chat: ChatFormat) -> Whole | None:
    """The conversation in one rendering with all turns of the assistant; None where a server would see it otherwise."""
    renderings, roles = _Renderings(example, chat), tuple(message.role for message in example.messages)
    shape = chat.shapes.of(roles) if renderings.is_plain else None
    if renderings.is_plain and not shape:
        return None
    if shape and (whole := _foretold(renderings, shape)):
        return whole
    places, text = assistant_turns(example.messages), renderings.until(len(roles) - 1)
    found = {place: turn for place in places if (turn := _turn(renderings, text, place))}
    if len(found) < len(places):
        return None
    return Whole(text[: found[places[-1]].end], renderings.stand_ins, found)


def _foretold(renderings: _Renderings, shape: Shape) -> Whole | None:
    """The conversation as its shape foretells it, where the template writes all before the last turn just so.

    What is before the last turn holds all that was said earlier, so that a template which reads it would show it there.
    """
    last = len(renderings.messages) - 1
    prompt = renderings.prompt(last)
    for said in renderings.contents():
        text, starts = shape.text(said), shape.starts(said)
        if last in starts and text[: starts[last]] == prompt:
            found = {
                place: turn for place, start in starts.items() if (turn := _plain_turn(renderings, text, start, place))
            }
            if len(found) == len(starts):
                return Whole(text[: found[last].end], renderings.stand_ins, found)
    return None


def _plain_turn(renderings: _Renderings, text: str, start: int, place: int) -> Turn | None:
    """A turn that says something and no more, None where the conversation has other words there."""
    response = renderings.chat.lead + renderings.said(place) + renderings.chat.terminator
    return Turn(start, start + len(response)) if text.startswith(response, start) else None


def _turn(renderings: _Renderings, text: str, place: int) -> Turn | None:
    """A turn in a whole conversation, None where a server's prompt for it, or its end, would read otherwise."""
    message, prompt = renderings.messages[place], renderings.prompt(place)
    if not text.startswith(prompt):
        return None
    if not _is_marked(message):
        return _plain_turn(renderings, text, len(prompt), place)
    until = renderings.until(place)
    end = _end_of_turn(renderings, until, len(prompt), place)
    printed = end and text.startswith(until[:end]) and not _unprinted(renderings, place, text[len(prompt) : end])
    return Turn(len(prompt), end) if end and printed else None


def _is_marked(message: Message) -> bool:
    """Whether a template writes a turn of the assistant in a way of its own."""
    return bool(message.extra.get("tool_calls") or message.extra.get(FIELD))


def _end_of_turn(renderings: _Renderings, text: str, start: int, place: int) -> int | None:
    """Behind the token that ends the turn: the usual one, or what the template ends calls of tools with.

    ``text`` is the conversation that ends with the turn, ``start`` where the turn begins. None where no token ends it.
    """
    encoder, said = renderings.chat.encoder, renderings.said(place)
    found = max(text.rfind(said, start), start) if said else start
    ends = [(text[begin:end], end) for begin, end in encoder.control_ends(text) if begin >= found]
    usual = next((end for token, end in ends if token == renderings.chat.end_token), None)
    return usual or (ends[-1][1] if ends else None)


def last_turn(example: Example, chat: ChatFormat) -> tuple[list[Piece], list[Piece]]:
    """The prompt before the last message, and what the model has to write then, with lead and end of turn.

    Raises StageError (InvalidSpec) where the template doesn't print the message's calls or its reasoning.
    """
    renderings, place = _Renderings(example, chat), len(example.messages) - 1
    message, prompt = renderings.messages[place], renderings.prompt(place)
    pieces = renderings.stand_ins.pieces
    if not _is_marked(message):
        return pieces(prompt), chat.response_pieces(message.content)
    until = renderings.until(place)
    if until.startswith(prompt):
        end = _end_of_turn(renderings, until, len(prompt), place)
        body = until[len(prompt) : end]
        if not (missing := _unprinted(renderings, place, body)):
            tail = [] if end else [Piece(chat.terminator, is_user=False)]
            return pieces(prompt), [*pieces(body), *tail]
    else:
        missing = "reasoning" if reasoning_of(message) else "calls of tools"
    if missing == "reasoning" and not message.extra.get("tool_calls") and prompt.rstrip().endswith(OPEN):
        # The prompt opens the reasoning, which the template doesn't repeat: the model goes on inside of it.
        said = [Piece(reasoning_of(message), True), Piece(f"\n{CLOSE}\n\n", False), Piece(message.content, True)]
        return pieces(prompt), [*said, Piece(chat.terminator, is_user=False)]
    raise StageError(
        Reason.INVALID_SPEC,
        f"{example.where or 'a row'}: the chat template does not print the assistant's {missing}, so that the loss "
        "would not see it",
        f"set spec.model.chatTemplate to a template that does, or take the {missing} out of the rows; then apply under "
        "a new name",
    )


def _unprinted(renderings: _Renderings, place: int, body: str) -> str:
    """What of a turn the template left out: its reasoning, its calls of tools, or nothing ("")."""
    message, shown = renderings.messages[place], renderings.stand_ins.shown(body)
    if reasoning_of(message)[:_COMPARED].strip() not in shown:
        return "reasoning"
    names = [call["function"]["name"] for call in message.extra.get("tool_calls", ())]
    return "" if all(name in shown for name in names) else "calls of tools"


def token_turns(
    wholes: Sequence[Whole], encoded: Sequence[Encoded], chat: ChatFormat
) -> list[dict[int, tuple[int, int]] | None]:
    """Where the turns lie among the token ids of each whole conversation, BOS not counted, by the message's index.

    None where a prompt's tokens would be others without what follows it.
    """
    borders = [_borders(whole, one, chat) for whole, one in zip(wholes, encoded, strict=True)]
    contexts = list(dict.fromkeys(border.context for one in borders for border in one or ()))
    known = dict(zip(contexts, chat.encoder.encode(contexts), strict=True))
    found: list[dict[int, tuple[int, int]] | None] = []
    for one, (ids, _) in zip(borders, encoded, strict=True):
        spans: dict[int, tuple[int, int]] | None = None if one is None else {}
        for border in one or ():
            context = known[border.context]
            begin = border.place + len(context)
            if spans is not None and ids[border.place : begin] == context:
                spans[border.message] = (begin, border.end)
            else:
                spans = None
        found.append(spans)
    return found


@dataclass(frozen=True)
class _Border:
    """Where a prompt ends, as far as control tokens tell."""

    message: int
    context: tuple[Piece, ...]  # the end of the prompt, from its last control token on: what is before has no say
    place: int  # of that control token among the ids
    end: int  # behind the token that ends the turn, among the ids


def _borders(whole: Whole, encoded: Encoded, chat: ChatFormat) -> list[_Border] | None:
    """Those of all turns; None where control tokens of text and ids don't match."""
    spans, places = chat.encoder.control_ends(whole.text), encoded.controls
    if len(spans) != len(places):
        return None
    starts, ends = [0, *(start for start, _ in spans)], [end for _, end in spans]
    found = []
    for message, turn in whole.turns.items():
        final = bisect_left(ends, turn.end)
        if final == len(ends) or ends[final] != turn.end:
            return None
        last = bisect_left(starts, max(turn.start, 1)) - 1  # of a prompt without any, its beginning
        context = tuple(whole.stand_ins.pieces(whole.text[starts[last] : turn.start]))
        found.append(_Border(message, context, places[last - 1] if last else 0, places[final] + 1))
    return found
