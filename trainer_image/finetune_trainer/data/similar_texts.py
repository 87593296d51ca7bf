"""Texts that are nearly the same: MinHash (Broder 1997) finds candidates, and each is checked on the sets themselves.

The sets lie in a file, so that memory holds a signature of each text and no more.
"""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from rensa import RMinHash, RMinHashLSH

SIMILAR = 0.8
_WORDS = 5
# 18 bands of 7: texts of similarity 0.8 meet in one with a probability of 1 - (1 - 0.8^7)^18 = 0.985, of 0.9 with
# 0.99999; of 0.5 with 0.13.
_BANDS, _BAND = 18, 7
_SEED = 42
# Signs count as words: in code and in sums they say as much.
_WORD = re.compile(r"\w+|[^\w\s]+")
# A text whose words are longer is in a script without spaces between them: there each sign is a word.
_LONG_WORDS = 16
# Texts that share much with many others, as boilerplate does, are compared with so many of them and no more.
_CANDIDATES = 64
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_KEPT_WORDS = 500_000
_HASH = 8  # bytes

Shingles = np.ndarray[Any, np.dtype[np.uint64]]


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        if len(self) >= _KEPT_WORDS:
            self.clear()
        self[word] = value = crc32(word.encode("utf-8", "surrogatepass"))
        return value


_word_hashes = _WordHashes()


def words_of(text: str) -> Sequence[str]:
    """The words of a text, or its signs where it is in a script without spaces."""
    words = _WORD.findall(text)
    letters = sum(map(len, words))
    return "".join(words) if words and letters > _LONG_WORDS * len(words) else words


def shingles(text: str) -> Shingles:
    """Hashes of a text's word 5-grams, each once and in order; of the whole text where it has fewer words."""
    words = words_of(text)
    hashes = np.fromiter(map(_word_hashes.__getitem__, words), np.uint64, len(words))
    size = min(_WORDS, len(words))
    count = len(words) - size + 1
    grams = np.zeros(count, np.uint64)
    for start in range(size):
        grams = grams * _FACTOR + hashes[start : start + count] + np.uint64(1)
    return np.unique(grams ^ (grams >> _SHIFT))


def jaccard(one: Shingles, other: Shingles) -> float:
    """The share of the shingles of both that both have."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


class SimilarTexts:
    """Texts by number, perhaps with an answer to each, and which of them are like another."""

    def __init__(self) -> None:
        self._index = RMinHashLSH(SIMILAR, _BANDS * _BAND, _BANDS)
        self._texts, self._answers = _Spool(), _Spool()
        self._numbers = array("q")

    def add(self, number: int, text: Shingles, answer: str = "") -> None:
        """Takes a text."""
        self._index.insert(len(self._numbers), _signature(text))
        self._numbers.append(number)
        self._texts.append(text.tobytes())
        self._answers.append(answer.encode("utf-8", "surrogatepass"))

    def first_like(self, text: Shingles, answer: str) -> int | None:
        """The number of the earliest text that is like this one and has an answer like this one's."""
        for place in self._like(text):
            other = self._answers[place].decode("utf-8", "surrogatepass")
            if answer == other or jaccard(shingles(answer), shingles(other)) >= SIMILAR:
                return self._numbers[place]
        return None

    def all_like(self, text: Shingles) -> list[int]:
        """The numbers of the texts that are like this one."""
        return [self._numbers[place] for place in self._like(text)]

    def _like(self, text: Shingles) -> Iterator[int]:
        if not self._numbers:
            return
        for place in sorted(self._index.query(_signature(text)))[:_CANDIDATES]:
            sizes = self._texts.size(place) // _HASH, len(text)
            if min(sizes) >= SIMILAR * max(sizes):  # else they can't be alike
                other = np.frombuffer(self._texts[place], np.uint64)
                if jaccard(text, other) >= SIMILAR:
                    yield place


class _Spool:
    """Bytes of many texts, in a file without a name, which goes with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="finetune-")  # noqa: SIM115 - it lives as long as this object
        self._ends = array("q", [0])

    def append(self, one: bytes) -> None:
        self._file.write(one)
        self._ends.append(self._ends[-1] + len(one))

    def size(self, place: int) -> int:
        return self._ends[place + 1] - self._ends[place]

    def __getitem__(self, place: int) -> bytes:
        self._file.flush()
        return os.pread(self._file.fileno(), self.size(place), self._ends[place])


def _signature(text: Shingles) -> RMinHash:
    signature = RMinHash(_BANDS * _BAND, _SEED)
    signature.update(text.view(f"S{_HASH}").tolist())  # zeros at an end go, which keeps them apart all the same
    return signature
