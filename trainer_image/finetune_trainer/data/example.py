"""The row type everywhere: a conversation, what of it the loss may see, and its options where it has some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Role = str  # "system", "user", "assistant" or "tool"
ASSISTANT: Role = "assistant"


class MalformedRow(ValueError):
    """A row that can't be used as it stands: its place, the column, what is wrong and what to do, in one line."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    train: bool = True  # of an assistant's turn: whether the loss may see it
    # What else a chat template may print of it: tool_calls, tool_call_id, name, reasoning_content.
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """One option of a question."""

    letter: str
    text: str
    response: str  # what the assistant says who chooses it: the filled response template


@dataclass(frozen=True)
class Choices:
    """The options of a question, in the order of the row."""

    options: tuple[Choice, ...]
    right: int  # index of the right option

    def is_right(self, index: int) -> bool:
        """Whether an option is right: the right one, or one of the same text, which nobody can tell from it."""
        return self.options[index].text == self.options[self.right].text


class Label(NamedTuple):
    """A value of a column that rows are sliced by."""

    name: str  # for people: one short line; two values may have the same
    sha256: str  # of the value, which tells it apart


@dataclass(frozen=True)
class Example:
    """One row, whatever its format: a conversation whose last message is the assistant's, or a plain document."""

    messages: tuple[Message, ...] = ()
    choices: Choices | None = None
    tools: tuple[Mapping[str, Any], ...] = ()  # that the assistant may call, as the chat template takes them
    text: str | None = None  # a document outside of any conversation; then there are no messages
    ends: bool = True  # whether the end of a document is to be learned
    question: str = ""  # what the row asks, without options: two rows that ask the same share it
    sha256: str = ""  # digest of what the row holds, whatever the templates
    provenance: str | None = None  # such as Human; None where nothing is said
    where: str = ""  # the row's place, for messages: "train.jsonl row 7"
    id: str | None = None  # the row's own name, where it has one
    labels: Mapping[str, Label | None] = field(default_factory=dict)  # by column, of those asked for; None: no value

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages but the last: what a server is sent before it gives the last response."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """What the loss sees at the end: the last message's text, or the document."""
        return self.messages[-1].content if self.text is None else self.text
