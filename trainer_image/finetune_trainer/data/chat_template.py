"""What a chat template prints, told apart into its own words and those of the messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from finetune_api.model import ModelSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.encoding import Piece, TextEncoder
from finetune_trainer.data.example import Message
from finetune_trainer.stage.failure import StageError, first_line
from finetune_trainer.stage.protocols import Tokenizer

# Llama-3.2's template prints today's date, which would change the prompts from day to day. This is its own fallback.
TEMPLATE_DATE = datetime(2024, 7, 26)


@dataclass(frozen=True)
class Frame:
    """What a template writes around messages: one text more than there are messages."""

    texts: tuple[str, ...]
    order: tuple[int, ...]  # of the messages: some print a system message before the last question


class Template:
    """A chat template with its variables, and which parts of what it prints are the messages'."""

    def __init__(self, tokenizer: Tokenizer, model: ModelSpec) -> None:
        self._tokenizer = tokenizer
        self._field = "spec.model.chatTemplate" if model.chat_template else "the tokenizer's chat template"
        self._variables = {name: _value(text) for name, text in model.chat_template_kwargs.items()}
        self._frames: dict[tuple[str, ...], Frame] = {}

    def render(self, messages: Sequence[Message], generate: bool) -> str:
        """The conversation as text; with ``generate``, up to where the model goes on.

        Raises StageError (InvalidSpec) for whatever the template raises.
        """
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    conversation,
                    tokenize=False,
                    add_generation_prompt=generate,
                    date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
                    strftime_now=TEMPLATE_DATE.strftime,
                    **self._variables,
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program: it can raise anything
            raise self.refusal(f"fails: {type(error).__name__}: {first_line(error)}") from error

    def pieces(self, messages: Sequence[Message], encoder: TextEncoder) -> list[Piece]:
        """A prompt, told apart into what the template wrote and what the messages say.

        Raises StageError (DatasetInvalid) where they can't be told apart and it matters.
        """
        if not messages:
            return []
        text = self.render(messages, generate=True)
        frame = self.frame(tuple(message.role for message in messages))
        if pieces := _matched(text, frame, messages) or _between(text, frame):
            return pieces
        for message in messages:
            if found := next(encoder.added_tokens(message.content), None):
                raise StageError(
                    Reason.DATASET_INVALID,
                    f"a message holds the control token {found[0]!r}, and the chat template rewrites the message, so "
                    "that it can't be kept as text",
                    "take the token out of the row",
                )
        return [Piece(text, is_user=False)]

    def frame(self, roles: tuple[str, ...]) -> Frame:
        """What the template writes around the messages of a prompt, by rendering probes.

        Raises StageError (InvalidSpec) unless each is printed once and unchanged.
        """
        if roles not in self._frames:
            probes = [f"qprobe{number}Q" for number in range(len(roles))]
            messages = [Message(role, probe) for role, probe in zip(roles, probes, strict=True)]
            self._frames[roles] = self.around(self.render(messages, generate=True), probes)
        return self._frames[roles]

    def around(self, text: str, probes: list[str]) -> Frame:
        """What stands around probes. Raises StageError (InvalidSpec) unless each stands there once."""
        if any(text.count(probe) != 1 for probe in probes):
            raise self.refusal("must print every message unchanged, once each")
        order = sorted(range(len(probes)), key=lambda number: text.index(probes[number]))
        parts = []
        for number in order:
            before, _, text = text.partition(probes[number])
            parts.append(before)
        return Frame((*parts, text), tuple(order))

    def refusal(self, problem: str) -> StageError:
        """InvalidSpec, with the field and what to do."""
        advice = "correct it" if self._field.startswith("spec") else "set spec.model.chatTemplate"
        return StageError(Reason.INVALID_SPEC, f"{self._field} {problem}", f"{advice}, and apply under a new name")


def _value(text: str) -> str | bool | int:
    """What a variable's text says."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _matched(text: str, frame: Frame, messages: Sequence[Message]) -> list[Piece] | None:
    """The text as the frame with the messages' texts in it, each as it is or trimmed; None where that isn't so."""
    before, *others = frame.texts
    if not text.startswith(before):
        return None
    pieces, place = [Piece(before, is_user=False)], len(before)
    for number, after in zip(frame.order, others, strict=True):
        content = messages[number].content
        for said in (content, content.rstrip(), content.lstrip(), content.strip()):
            if text.startswith(said + after, place):
                break
        else:
            return None
        pieces += [Piece(said, is_user=True), Piece(after, is_user=False)]
        place += len(said) + len(after)
    return pieces if place == len(text) else None


def _between(text: str, frame: Frame) -> list[Piece] | None:
    """The same for a single message, whatever the template made of it."""
    before, *_, after = frame.texts
    if len(frame.texts) != 2 or len(text) < len(before) + len(after):
        return None
    if not (text.startswith(before) and text.endswith(after)):
        return None
    said = text[len(before) : len(text) - len(after)]
    return [Piece(before, is_user=False), Piece(said, is_user=True), Piece(after, is_user=False)]
