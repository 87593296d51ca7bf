"""Rows that repeat an earlier one, exactly or nearly, and held-out rows that training rows ask, too.

Near means: the sets of their word 5-grams share at least 80% (Jaccard similarity). MinHash (Broder 1997) with
locality-sensitive hashing finds candidates, and each is checked on the sets themselves.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from rensa import RMinHash, RMinHashLSH

from finetune_trainer.data.example import ASSISTANT, Example

EXACT, NEAR = "ExactDuplicate", "NearDuplicate"
SIMILAR = 0.8
_WORDS = 5
# 32 bands of 4: rows of similarity 0.8 meet in one with a probability of 1 - (1 - 0.8^4)^32 > 0.9999.
_PERMUTATIONS, _BANDS, _SEED = 128, 32, 42
_WORD = re.compile(r"\w+")
# Scripts without spaces between words: there signs are taken for words.
_LONG_WORDS = 16

Mode = Literal["None", "Exact", "Near"]


def folded(text: str) -> str:
    """A text as it is compared: whatever its case, its white space and the encoding of its accents."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def shingles(text: str) -> list[str]:
    """A text's word 5-grams; the whole text where it has fewer words."""
    words: Sequence[str] = _WORD.findall(folded(text))
    letters = sum(map(len, words))
    if words and letters > _LONG_WORDS * len(words):
        words = "".join(words)
    if len(words) <= _WORDS:
        return [" ".join(words)]
    return [" ".join(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)]


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two texts' word 5-grams."""
    return _jaccard(_hashes(shingles(one)), _hashes(shingles(other)))


def _hashes(texts: Iterable[str]) -> frozenset[int]:
    return frozenset(crc32(text.encode()) for text in texts)


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def said(example: Example) -> str:
    """What a row answers: all that the assistant says, or the right option's text."""
    if example.choices:
        return example.choices.options[example.choices.right].text
    return "\n".join(message.content for message in example.messages if message.role == ASSISTANT)


def _exact_key(example: Example) -> bytes:
    turns = [(message.role, folded(message.content)) for message in example.messages]
    return hashlib.sha256(repr((turns, folded(example.text or ""))).encode()).digest()[:16]


class SimilarTexts:
    """Texts by number, and which of them are like another."""

    def __init__(self) -> None:
        self._index = RMinHashLSH(SIMILAR, _PERMUTATIONS, _BANDS)
        self._hashes: dict[int, array[int]] = {}

    def add(self, number: int, text: str) -> None:
        """Takes a text."""
        parts = shingles(text)
        self._index.insert(number, _signature(parts))
        self._hashes[number] = array("I", sorted(_hashes(parts)))

    def like(self, text: str) -> list[int]:
        """Numbers of the texts that share at least 80% of their word 5-grams with this one."""
        parts = shingles(text)
        found = self._index.query(_signature(parts))
        own = _hashes(parts) if found else frozenset[int]()
        return sorted(one for one in found if _jaccard(own, frozenset(self._hashes[one])) >= SIMILAR)


def _signature(parts: list[str]) -> RMinHash:
    signature = RMinHash(_PERMUTATIONS, _SEED)
    signature.update(parts)
    return signature


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
        self._questions, self._answers = SimilarTexts(), dict[int, frozenset[int]]()

    def find(self, example: Example, number: int) -> Repeat | None:
        """What the row repeats; a row that repeats nothing is kept for later ones.

        Near repeats have to answer alike as well: pairs that differ in their answer are what a model learns from.
        """
        if self._mode == "None":
            return None
        earlier = self._exact.setdefault(_exact_key(example), number)
        if earlier != number:
            return Repeat(EXACT, earlier)
        if self._mode == "Near":
            answer = _hashes(shingles(said(example)))
            for one in self._questions.like(example.question):
                if _jaccard(answer, self._answers[one]) >= SIMILAR:
                    return Repeat(NEAR, one)
            self._questions.add(number, example.question)
            self._answers[number] = answer
        return None


class Overlap:
    """Held-out rows, and which of them training rows ask, too."""

    def __init__(self, held_out: Sequence[Example]) -> None:
        self._size = len(held_out)
        self._exact: dict[str, list[int]] = {}
        self._near = SimilarTexts()
        self.found: dict[int, str] = {}  # place of the training row, by the held-out row's number
        for number, example in enumerate(held_out):
            self._exact.setdefault(folded(example.question), []).append(number)
            self._near.add(number, example.question)

    def see(self, example: Example) -> None:
        """Notes the held-out rows that a training row asks, too."""
        if not self._size:
            return
        for number in (*self._exact.get(folded(example.question), ()), *self._near.like(example.question)):
            self.found.setdefault(number, example.where)
