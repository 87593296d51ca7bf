"""What a chat template prints, told apart into its own words and those of the messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_api.model import ModelSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.encoding import Piece, TextEncoder
from finetune_trainer.data.example import Message
from finetune_trainer.data.stand_ins import StandIns
from finetune_trainer.stage.failure import StageError, first_line
from finetune_trainer.stage.protocols import Tokenizer

# Llama-3.2's template prints today's date, which would change the prompts from day to day. This is its own fallback.
TEMPLATE_DATE = datetime(2024, 7, 26)


# What templates of reasoning models call the reasoning of a turn.
_REASONING = re.compile(r"\breasoning_content\b|\bthinking\b")


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
        source = tokenizer.chat_template
        text = source.get("default", "") if isinstance(source, dict) else source or ""
        self._reads_reasoning = bool(_REASONING.search(text))

    def render(self, messages: Sequence[Message], generate: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The conversation as text; with ``generate``, up to where the model goes on.

        Raises StageError (InvalidSpec) for whatever the template raises.
        """
        return self.render_turns([self._turn(message) for message in messages], generate, tools)

    def render_turns(
        self, turns: Sequence[Mapping[str, Any]], generate: bool, tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """The same for turns as templates read them."""
        given: dict[str, Any] = {"tools": list(tools)} if tools else {}
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(turns),
                    tokenize=False,
                    add_generation_prompt=generate,
                    date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
                    strftime_now=TEMPLATE_DATE.strftime,
                    **given,
                    **self._variables,
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program: it can raise anything
            raise self.refusal(f"fails: {type(error).__name__}: {first_line(error)}") from error

    def hidden_turns(self, messages: Sequence[Message], stand_ins: StandIns) -> list[dict[str, Any]]:
        """Turns as this template reads them, with stand-ins for the control tokens that they spell out."""
        return [self._turn(message, stand_ins.hide) for message in messages]

    def _turn(self, message: Message, hide: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
        content, extra = hide(message.content), {name: hide(value) for name, value in message.extra.items()}
        reasoning = extra.pop("reasoning_content", None)
        if reasoning and self._reads_reasoning:
            extra |= {"reasoning_content": reasoning, "thinking": reasoning}
        elif reasoning:  # a template that knows its marks cuts it out of earlier turns
            content = f"<think>\n{reasoning}\n</think>\n\n{content}"
        return {"role": message.role, "content": content, **extra}

    def pieces(
        self, messages: Sequence[Message], encoder: TextEncoder, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Piece]:
        """A prompt, told apart into what the template wrote and what spells out its tokens in the messages."""
        if not messages:
            return []
        stand_ins = StandIns(encoder)
        turns = self.hidden_turns(messages, stand_ins)
        return stand_ins.pieces(self.render_turns(turns, generate=True, tools=stand_ins.hide(list(tools))))

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
