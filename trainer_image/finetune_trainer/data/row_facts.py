"""What one pass over the rows found, as it is kept beside their tokens."""

from __future__ import annotations

from typing import Any

from finetune_api.base import ApiModel
from finetune_trainer.data.example import Example, Message

UNKNOWN = "Unknown"  # provenance where nothing is said


class SourceFacts(ApiModel):
    """What became of the rows of one dataset."""

    name: str  # in the mixture
    source: str  # for messages
    field: str
    read: int
    kept: int
    dropped: dict[str, int]  # by the step that did it
    malformed: list[str]  # the first, in words
    repeats: list[str]
    unfit: list[str]  # too long, or without a response
    has_few_answers: bool  # whether rows give few different ones, as classes are


class KeptRow(ApiModel):
    """A row whose tokens can be made again, to compare tokenizers."""

    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    text: str | None = None
    ends: bool = True

    @classmethod
    def of(cls, example: Example) -> KeptRow:
        """What its tokens are made of."""
        messages = [
            {"role": one.role, "content": one.content, "train": one.train, "extra": dict(one.extra)}
            for one in example.messages
        ]
        tools = [dict(tool) for tool in example.tools]
        return cls(messages=messages, tools=tools, text=example.text, ends=example.ends)

    @property
    def example(self) -> Example:
        """The row again, as far as its tokens go."""
        return Example(
            messages=tuple(Message(**message) for message in self.messages),
            tools=tuple(self.tools),
            text=self.text,
            ends=self.ends,
        )


class RowFacts(ApiModel):
    """What one pass over all datasets found."""

    sha256: str  # of what the rows hold, as read, in order
    sources: list[SourceFacts]
    provenances: list[str]  # by their numbers in the token store
    answers: list[str]  # the same
    first: list[KeptRow]  # the first rows, to compare tokenizers
    sample: str  # the first row as text, what the loss sees marked

    @property
    def kept(self) -> dict[str, int]:
        """Rows kept, by dataset."""
        return {one.name: one.kept for one in self.sources}

    def dropped(self) -> dict[str, int]:
        """Rows left out of all datasets, by the step that did it."""
        found: dict[str, int] = {}
        for one in self.sources:
            for kind, rows in one.dropped.items():
                found[kind] = found.get(kind, 0) + rows
        return found


class OverlapFacts(ApiModel):
    """Held-out rows that training rows ask, too."""

    held_out: int = 0  # rows that were compared
    exact: int = 0
    near: int = 0  # nearly or exactly
    pairs: list[str] = []  # the first, in words
    are_the_same_rows: bool = False
