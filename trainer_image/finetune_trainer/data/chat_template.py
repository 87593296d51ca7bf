"""What a chat template prints, told apart into its own words and those of the messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from finetune_api.model import ModelSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.encoding import Piece, TextEncoder
from finetune_trainer.data.example import ASSISTANT, Message
from finetune_trainer.data.reasoning import CLOSE, FIELD, OPEN, with_reasoning
from finetune_trainer.data.stand_ins import StandIns
from finetune_trainer.stage.failure import StageError, first_line
from finetune_trainer.stage.protocols import Tokenizer

# Llama-3.2's template prints today's date, which would change the prompts from day to day. This is its own fallback.
TEMPLATE_DATE = datetime(2024, 7, 26)
_USUAL_ROLES = ("user", ASSISTANT)  # which every template prints
_PROBE = "qprobe0Q"


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
        self._printed_roles = set(_USUAL_ROLES)

    @cached_property
    def prints_reasoning(self) -> bool:
        """Whether the template itself prints what a turn thinks."""
        thinks = {"role": ASSISTANT, "content": _PROBE, FIELD: "tprobe0T", "thinking": "tprobe0T"}
        try:
            return "tprobe0T" in self.render_turns([{"role": "user", "content": "a"}, thinks], generate=False)
        except StageError:
            return False

    @cached_property
    def trims_responses(self) -> bool:
        """Whether the template takes white space from around what the assistant says."""
        said = f"\n {_PROBE} \n"
        return said not in self.render([Message("user", "a"), Message(ASSISTANT, said)], generate=False)

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
            problem = f"fails: {type(error).__name__}: {first_line(error)}"
            roles = dict.fromkeys(str(turn["role"]) for turn in turns)
            if unusual := [role for role in roles if role not in _USUAL_ROLES]:
                problem += f" (the conversation has a turn of the role {' and of '.join(unusual)})"
            raise self.refusal(problem, unusual) from error

    def check_roles(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """Raises StageError (InvalidSpec) when the template leaves out turns of a role that these messages have.

        Each role is tried once, in the first conversation that has it.
        """
        for role in {message.role for message in messages} - self._printed_roles:
            probed = [replace(one, content=_PROBE) if one.role == role else one for one in messages]
            # Some print the system's turn only where the conversation ends in the user's.
            prompt = probed[:-1] if probed[-1].role == ASSISTANT else probed
            texts = (self.render(part, generate, tools) for part, generate in ((prompt, True), (probed, False)))
            if not any(_PROBE in text for text in texts):
                raise self.refusal(f"prints no turns of the role {role}, which the rows have", [role])
            self._printed_roles.add(role)

    def hidden_turns(self, messages: Sequence[Message], stand_ins: StandIns) -> list[dict[str, Any]]:
        """Turns as this template reads them, with stand-ins for the control tokens that they spell out."""
        return [self._turn(message, stand_ins.hide) for message in messages]

    def _turn(self, message: Message, hide: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
        if message.role == ASSISTANT:
            message = with_reasoning(message)
        content, extra = hide(message.content), {name: hide(value) for name, value in message.extra.items()}
        if (reasoning := extra.pop(FIELD, None)) and self.prints_reasoning:
            extra |= {FIELD: reasoning, "thinking": reasoning}
        elif reasoning:  # a template that knows these marks cuts it out of earlier turns
            content = f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{content}"
        return {"role": message.role, "content": content, **extra}

    def pieces(
        self, messages: Sequence[Message], encoder: TextEncoder, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Piece]:
        """A prompt, told apart into what the template wrote and what spells out its tokens in the messages."""
        if not messages:
            return []
        self.check_roles(messages, tools)
        stand_ins = StandIns(encoder)
        turns = self.hidden_turns(messages, stand_ins)
        return stand_ins.pieces(self.render_turns(turns, generate=True, tools=stand_ins.hide(list(tools))))

    def frame(self, roles: Sequence[str], generate: bool = True) -> Frame:
        """What the template writes around messages of these roles, by rendering probes.

        Raises StageError (InvalidSpec) unless each is printed once and unchanged.
        """
        probes = [f"qprobe{number}Q" for number in range(len(roles))]
        messages = [Message(role, probe) for role, probe in zip(roles, probes, strict=True)]
        return self.around(self.render(messages, generate), probes)

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

    def refusal(self, problem: str, roles: Sequence[str] = ()) -> StageError:
        """InvalidSpec, with the field and what to do; ``roles`` are those that rows could do without."""
        advice = "correct it" if self._field.startswith("spec") else "set spec.model.chatTemplate"
        without = f", or take the turns of the role {' and '.join(roles)} out of the rows" if roles else ""
        advice = f"{advice}{without}, and apply under a new name"
        return StageError(Reason.INVALID_SPEC, f"{self._field} {problem}", advice)


def _value(text: str) -> str | bool | int:
    """What a variable's text says."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
