"""Token ids of text that is partly a chat template's and partly a user's.

A tokenizer matches its added tokens (``<|im_end|>``, ``<think>``, ``[INST]``) wherever they stand in a text. What a
user wrote must stay text: a row that spells one out would end its turn, or open another. Yet template and user text
can't be tokenised apart, since tokens may form, and prefix spaces appear, across the border. So the whole text is
tokenised at once, and only if a user's text came out as an added token, once more by a twin of the tokenizer that
knows the added tokens by other names: those stand in the text where the template has them, and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer

# Private characters of Unicode, which no tokenizer normalises away. One names a token, the other keeps the names apart
# from what a user may have written.
_NAMES = 0xF0000
_GUARD = "\U0010fffd"
# Runs of white space and single bytes are added tokens in some vocabularies, and text all the same.
_TEXT = re.compile(r"\s*|<0x[0-9A-F]{2}>")


class Piece(NamedTuple):
    """Part of a text."""

    text: str
    is_user: bool  # whose added tokens are mere text


class Encoded(NamedTuple):
    """Token ids of a text."""

    ids: list[int]
    controls: list[int]  # where control tokens stand among them


class TextEncoder:
    """Tokenises pieces as one text, in which only the template's pieces hold added tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = {
            token.content: id_
            for id_, token in tokenizer.added_tokens_decoder.items()
            if not _TEXT.fullmatch(token.content)
        }
        # The unknown token may come out of any text, unless it doubles as another.
        others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        unknown = {tokenizer.unk_token_id} - set(others)
        self._control = frozenset(self._ids.values()) - unknown
        # The longest of those that begin at one place is the token, as in the tokenizer itself.
        names = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._twins: dict[int, _Twin] = {}
        # Beginnings and endings of added tokens, by which one could form across the border of two texts.
        self._beginnings = frozenset(name[:length] for name in names for length in range(1, len(name)))
        self._endings = frozenset(name[length:] for name in names for length in range(1, len(name)))
        self._longest = max(map(len, names), default=0)
        # By one sign it is told of most texts that they have neither at their ends.
        self._first_signs, self._last_signs = {name[0] for name in names}, {name[-1] for name in names}

    def encode(self, texts: Sequence[Sequence[Piece]]) -> list[list[int]]:
        """Token ids of each text, without BOS or EOS of the tokenizer's own.

        They are the tokenizer's own ids of the whole text, unless a user's piece spells out an added token. Raises
        StageError (DatasetInvalid) for a text that this tokenizer can't read as text.
        """
        return [one.ids for one in self.encode_marked(texts)]

    def encode_marked(self, texts: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """The same with the places of control tokens."""
        merged = [list(_merged(pieces)) for pieces in texts]
        ids = self.plain_ids(["".join(piece.text for piece in pieces) for pieces in merged])
        found = (Encoded(one, self._control_positions(one)) for one in ids)
        return [
            one if self._is_safe(pieces, one) else self._guarded(pieces)
            for one, pieces in zip(found, merged, strict=True)
        ]

    def plain_ids(self, texts: list[str]) -> list[list[int]]:
        """The tokenizer's own ids of texts."""
        if not texts:
            return []
        if self._is_plain_backend:
            # Without offsets, which nobody asks for here and which take a third of the time.
            found = self._tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return [one.ids for one in found]
        return list(self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False).input_ids)

    @cached_property
    def _is_plain_backend(self) -> bool:
        """Whether the tokenizer's own ids are those of its Rust library: a class may do more, and settings may cut."""
        from transformers import TokenizersBackend

        kind, backend = type(self._tokenizer), getattr(self._tokenizer, "backend_tokenizer", None)
        is_plain = all(
            getattr(kind, name, None) is getattr(TokenizersBackend, name) for name in ("__call__", "_encode_plus")
        )
        if not is_plain or backend is None or self._tokenizer.split_special_tokens or backend.encode_special_tokens:
            return False
        return backend.truncation is None and backend.padding is None

    def added_tokens(self, text: str) -> Iterator[re.Match[str]]:
        """The added tokens in a text, in order."""
        return self._pattern.finditer(text)

    @cached_property
    def longest_word(self) -> int:
        """Characters of text that one token can stand for, generously: normalisers join and drop some."""
        return 4 * max(map(len, self._tokenizer.get_vocab()))

    def may_hold_token(self, text: str) -> bool:
        """Whether a text spells out an added token, or begins or ends with part of one."""
        return bool(self._pattern.search(text)) or self.token_edges(text) != (0, 0)

    def token_edges(self, text: str) -> tuple[int, int]:
        """Characters at the beginning that may end an added token, and at the end that may begin one."""
        longest = min(self._longest - 1, len(text))
        start = end = 0
        if longest and not self._last_signs.isdisjoint(text[:longest]):
            start = next((length for length in range(longest, 0, -1) if text[:length] in self._endings), 0)
        if longest and not self._first_signs.isdisjoint(text[-longest:]):
            end = next((length for length in range(longest, 0, -1) if text[-length:] in self._beginnings), 0)
        return start, min(end, len(text) - start)

    def replace_tokens(self, text: str, by: Callable[[str], str]) -> str:
        """The text with each added token in it replaced."""
        return self._pattern.sub(lambda match: by(match[0]), text)

    def control_ends(self, text: str) -> list[tuple[int, int]]:
        """Where control tokens begin and end in a text of the template's."""
        return [match.span() for match in self.added_tokens(text) if self._ids[match[0]] in self._control]

    def added_id(self, token: str) -> int:
        """The id of an added token."""
        return self._ids[token]

    def _control_positions(self, ids: Sequence[int]) -> list[int]:
        return list(compress(range(len(ids)), map(self._control.__contains__, ids)))

    def _is_safe(self, pieces: list[Piece], encoded: Encoded) -> bool:
        """Whether ids hold the template's added tokens only. A normaliser may make one from text that looks otherwise.

        The tokens are compared as well as the text, since one may also form across a border.
        """
        spelled = any(piece.is_user and self._pattern.search(piece.text) for piece in pieces)
        return not spelled and [encoded.ids[place] for place in encoded.controls] == self._own_ids(pieces)

    def _own_ids(self, pieces: Iterable[Piece]) -> list[int]:
        """Ids of the added tokens that the template wrote."""
        found = (match[0] for piece in pieces if not piece.is_user for match in self.added_tokens(piece.text))
        return [id_ for token in found if (id_ := self._ids[token]) in self._control]

    def guarded_ids(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids of one text by way of the twin: the same, but for added tokens in a user's pieces."""
        return self._guarded(pieces).ids

    def _guarded(self, pieces: Sequence[Piece]) -> Encoded:
        ids = self._by_twin(pieces) if self._tokenizer.is_fast else self._by_stretches(pieces)
        controls = self._control_positions(ids)
        if [ids[place] for place in controls] != self._own_ids(pieces):
            text = "".join(piece.text for piece in pieces if piece.is_user)
            raise StageError(
                Reason.DATASET_INVALID,
                f"this model's tokenizer takes part of a row's text for a control token: {cut(text, 200)!r}",
                "take the token out of the row",
            )
        return Encoded(ids, controls)

    def _by_twin(self, pieces: Sequence[Piece]) -> list[int]:
        guards = 1
        while any(_GUARD * guards in piece.text for piece in pieces):
            guards += 1
        if guards not in self._twins:
            self._twins[guards] = _Twin(self._tokenizer.backend_tokenizer.to_str(), self._ids, _GUARD * guards)
        twin = self._twins[guards]
        text = "".join(
            piece.text if piece.is_user else self._pattern.sub(lambda match: twin.names[match[0]], piece.text)
            for piece in pieces
        )
        return twin.encode(text)

    def _by_stretches(self, pieces: Sequence[Piece]) -> list[int]:
        """A tokenizer in Python splits at added tokens first and then reads each stretch by itself, so we can, too."""
        ids: list[int] = []
        for stretch, token in self._stretches(pieces):
            if stretch:
                one = self._tokenizer([stretch], add_special_tokens=False, split_special_tokens=True).input_ids
                ids += one[0]
            if token:
                ids.append(self._ids[token])
        return ids

    def _stretches(self, pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
        """(text, the template's added token that follows or "") in order."""
        stretch, strips = "", False
        decoder = self._tokenizer.added_tokens_decoder
        for piece in pieces:
            matches = [] if piece.is_user else list(self.added_tokens(piece.text))
            ends = [0, *(match.end() for match in matches)]
            for match, end in zip(matches, ends, strict=False):
                stretch += piece.text[end : match.start()]
                token = decoder[self._ids[match[0]]]
                stretch = stretch.lstrip() if strips else stretch
                yield stretch.rstrip() if token.lstrip else stretch, match[0]
                stretch, strips = "", token.rstrip
            stretch += piece.text[ends[-1] :]
        yield stretch.lstrip() if strips else stretch, ""


class _Twin:
    """A fast tokenizer in which the added tokens have other names."""

    def __init__(self, serialized: str, ids: dict[str, int], guard: str) -> None:
        from tokenizers import Tokenizer as Backend

        self.names = {content: f"{guard}{chr(_NAMES + number)}" for number, content in enumerate(ids)}
        document = json.loads(serialized)
        # A model that knows the token as a word would find it in text without any help.
        _rename_words(document["model"], self.names)
        for token in document["added_tokens"]:
            token["content"] = self.names.get(token["content"], token["content"])
        document.update(truncation=None, padding=None, post_processor=None)
        self._backend = Backend.from_str(json.dumps(document))
        self._original = {self._backend.token_to_id(name): ids[content] for content, name in self.names.items()}

    def encode(self, text: str) -> list[int]:
        """Ids in the original's terms."""
        return [self._original.get(id_, id_) for id_ in self._backend.encode(text, add_special_tokens=False).ids]


def _rename_words(model: dict[str, Any], names: dict[str, str]) -> None:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [[word, score], …]
        model["vocab"] = [[names.get(word, word), *rest] for word, *rest in vocabulary]
        return
    # BPE: what merges make can't be renamed. Before tokenizers 0.20 a merge was one text.
    made = {"".join(merge) if isinstance(merge, list) else merge.replace(" ", "") for merge in model.get("merges", [])}
    model["vocab"] = {word if word in made else names.get(word, word): id_ for word, id_ in vocabulary.items()}
    unknown = model.get("unk_token")
    if unknown and unknown not in made:
        model["unk_token"] = names.get(unknown, unknown)


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece, so that a token across their border is seen."""
    kept: list[Piece] = []
    for piece in pieces:
        if kept and kept[-1].is_user == piece.is_user:
            kept[-1] = Piece(kept[-1].text + piece.text, piece.is_user)
        elif piece.text:
            kept.append(piece)
    return iter(kept)
