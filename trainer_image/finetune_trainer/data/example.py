"""The row type everywhere: a conversation whose last message the loss sees, and its options where it has some."""

from __future__ import annotations

from dataclasses import dataclass

Role = str  # "system", "user", "assistant" or "tool"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


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


@dataclass(frozen=True)
class Example:
    """One row, whatever its format."""

    messages: tuple[Message, ...]  # the last one is the assistant's, and what the loss sees
    choices: Choices | None = None
    question: str = ""  # what the row asks, without options: two rows that ask the same share it
    sha256: str = ""  # digest of what the row holds, whatever the templates

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages but the last: what a server is sent."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The last message's text."""
        return self.messages[-1].content
