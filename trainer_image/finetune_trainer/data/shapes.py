"""How a template writes conversations whose turns are of the same roles, learnt once from probes.

A conversation is then read from one rendering of the whole, however many turns it has: where its text is what the
probes foretell, the prompts before its turns are, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune_trainer.data.chat_template import Template
from finetune_trainer.data.example import ASSISTANT
from finetune_trainer.stage.failure import StageError

_KEPT = 2048  # shapes; rows of a dataset have few


@dataclass(frozen=True)
class Shape:
    """What a template writes around the turns, where each prompt is the beginning of the whole conversation."""

    texts: tuple[str, ...]  # one more than there are turns
    prompt_ends: Mapping[int, int]  # by the assistant's turns: how much of the text before it a server writes

    def text(self, said: Sequence[str]) -> str:
        """The conversation in which this is ``said``."""
        between = (text for pair in zip(self.texts, (*said, ""), strict=True) for text in pair)
        return "".join(between)

    def starts(self, said: Sequence[str]) -> dict[int, int]:
        """Characters before each of the assistant's turns: the length of its prompt."""
        found, length = {}, 0
        for place, (text, words) in enumerate(zip(self.texts, (*said, ""), strict=True)):
            if place in self.prompt_ends:
                found[place] = length + self.prompt_ends[place]
            length += len(text) + len(words)
        return found


class Shapes:
    """Those of one template."""

    def __init__(self, template: Template, lead: str, terminator: str) -> None:
        self._template, self._lead, self._terminator = template, lead, terminator
        self._known: dict[tuple[str, ...], Shape | None] = {}

    def of(self, roles: tuple[str, ...]) -> Shape | None:
        """The shape of a conversation; None where a server would see the beginning of one otherwise."""
        try:
            return self._known[roles]
        except KeyError:
            shape = self._read(roles)
        if len(self._known) >= _KEPT:  # other threads may read in between
            self._known.clear()
        self._known[roles] = shape
        return shape

    def _read(self, roles: tuple[str, ...]) -> Shape | None:
        try:
            whole = self._template.frame(roles, generate=False)
            if whole.order != tuple(range(len(roles))):
                return None
            ends = {}
            for place in (place for place, role in enumerate(roles) if role == ASSISTANT):
                prompt = self._template.frame(roles[:place])
                *before, end = prompt.texts
                follows = whole.texts[place] == end + self._lead and whole.texts[place + 1].startswith(self._terminator)
                if prompt.order != tuple(range(place)) or tuple(before) != whole.texts[:place] or not follows:
                    return None
                ends[place] = len(end)
        except StageError:
            return None  # what can't be printed is told by the row itself
        return Shape(whole.texts, ends)
