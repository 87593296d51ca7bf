"""Rows that repeat an earlier one, exactly or nearly, and held-out rows that training rows ask, too.

Near means: the sets of their word 5-grams share at least 80% (Jaccard similarity). What a row itself says is compared,
not the templates around it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from finetune_trainer.data.example import ASSISTANT, Example, Role
from finetune_trainer.data.similar_texts import Shingles, SimilarTexts, shingles

EXACT, NEAR = "ExactDuplicate", "NearDuplicate"
NAMED = 10  # rows that a report names of each kind
_BORDER = " \0 "

Mode = Literal["None", "Exact", "Near"]


def folded(text: str) -> str:
    """A text as it is compared: whatever its case, its white space and the encoding of its accents."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def asked(example: Example) -> str:
    """What a row asks: the question and its options, the user's turns, the instruction and its input, the document."""
    if example.choices:
        return "\n".join([example.question, *(option.text for option in example.choices.options)])
    return example.question


def said(example: Example) -> str:
    """What a row answers: all that the assistant says, or the right option's text. Nothing for a document."""
    if example.choices:
        return example.choices.options[example.choices.right].text
    return "\n".join(message.content for message in example.messages if message.role == ASSISTANT)


@dataclass(frozen=True)
class Compared:
    """A row as it is compared with others. Each part is made once, when it is first asked for."""

    example: Example

    @cached_property
    def exact(self) -> bytes:
        """Digest of who says what, and of what else the row tells the model."""
        example = self.example
        parts = [folded(example.text or "")]
        parts += (part for one, text in zip(example.messages, self._folded, strict=True) for part in (one.role, text))
        others = [dict(one.extra) for one in example.messages if one.extra]
        # Rows hold no control characters, so that the borders are unmistakable.
        text = f"{_BORDER.join(parts)}{_BORDER}{[others, example.tools] if others or example.tools else ''}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]

    @cached_property
    def _folded(self) -> list[str]:
        """What the messages say, each as it is compared."""
        return [folded(message.content) for message in self.example.messages]

    def _folded_of(self, role: Role) -> str:
        texts = zip(self.example.messages, self._folded, strict=True)
        return " ".join(text for message, text in texts if message.role == role)

    @cached_property
    def _question(self) -> str:
        return folded(self.example.question)

    @cached_property
    def question(self) -> bytes:
        """Digest of what the row asks, without options."""
        return hashlib.sha256(self._question.encode("utf-8", "surrogatepass")).digest()[:16]

    @cached_property
    def question_shingles(self) -> Shingles:
        return shingles(self._question)

    @cached_property
    def asked_shingles(self) -> Shingles:
        return shingles(folded(asked(self.example))) if self.example.choices else self.question_shingles

    @cached_property
    def said(self) -> str:
        return folded(said(self.example)) if self.example.choices else self._folded_of(ASSISTANT)


@dataclass(frozen=True)
class Repeat:
    """What a row repeats."""

    kind: str  # EXACT or NEAR
    of: int  # number of the earlier row


class Duplicates:
    """The rows so far, by number, and whether a further one repeats one of them."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._exact: dict[bytes, int] = {}
        self._near = SimilarTexts()

    def find(self, row: Compared, number: int) -> Repeat | None:
        """What the row repeats; a row that repeats nothing is kept for later ones.

        Near repeats have to answer alike as well: pairs that differ in their answer are what a model learns from.
        """
        if self._mode == "None":
            return None
        earlier = self._exact.setdefault(row.exact, number)
        if earlier != number:
            return Repeat(EXACT, earlier)
        if self._mode == "Near":
            # None of the numbers is that of a row that was left out, so that no chain of likenesses drifts away.
            found = self._near.first_like(row.asked_shingles, row.said)
            if found is not None:
                return Repeat(NEAR, found)
            self._near.add(number, row.asked_shingles, row.said)
        return None


@dataclass
class Overlap:
    """Held-out rows, and which of them training rows ask, too."""

    held_out: Sequence[Example]
    exact: dict[int, str] = field(default_factory=dict)  # place of the training row, by the held-out row's number
    near: dict[int, str] = field(default_factory=dict)  # the same where the question is nearly the same, or the same

    def __post_init__(self) -> None:
        self._numbers: dict[bytes, list[int]] = {}
        self._similar = SimilarTexts()
        # Rows as a whole: whether any training row is not among the held-out rows, and which of these have been met.
        self._rows = {example.sha256 for example in self.held_out}
        self._not_met, self._has_others = set(self._rows), False
        for number, example in enumerate(self.held_out):
            row = Compared(example)
            self._numbers.setdefault(row.question, []).append(number)
            self._similar.add(number, row.question_shingles)

    def see(self, row: Compared) -> None:
        """Notes the held-out rows that a training row asks, too."""
        if not self.held_out:
            return
        self._has_others |= row.example.sha256 not in self._rows
        self._not_met.discard(row.example.sha256)
        for number in self._numbers.get(row.question, ()):
            self.exact.setdefault(number, row.example.where)
            self.near.setdefault(number, row.example.where)
        for number in self._similar.all_like(row.question_shingles):
            self.near.setdefault(number, row.example.where)

    @property
    def are_the_same_rows(self) -> bool:
        """Whether the training rows are the held-out rows, in whatever order."""
        return bool(self.held_out) and not self._has_others and not self._not_met

    def pairs(self) -> list[str]:
        """The first held-out rows that a training row asks, too, in words."""
        return [f"{self.held_out[number].where} and {where}" for number, where in sorted(self.near.items())[:NAMED]]
