"""Stand-ins for control tokens that rows spell out.

A chat template mixes what a row says with tokens of its own, and may trim, split or encode it as JSON on the way. So
before it is rendered, each added token in a row's texts is replaced by a private character, which no template knows and
none takes for a token. Where those stand in the rendering, the row's text stands: everything else that looks like an
added token is the template's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from finetune_trainer.data.encoding import Piece, TextEncoder
from finetune_trainer.data.example import MalformedRow

_FIRST, _LAST = 0x10F000, 0x10FFFC
_PRIVATE = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")


class StandIns:
    """Those of one conversation."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._texts: list[str] = []
        self._signs: dict[str, str] = {}

    def hide(self, value: Any) -> Any:
        """A value of JSON in which no text spells out an added token, or begins or ends with part of one.

        Raises MalformedRow for a conversation with thousands of different ones.
        """
        if isinstance(value, str):
            return self._hidden(value)
        if isinstance(value, Mapping):
            return {self._hidden(str(name)): self.hide(one) for name, one in value.items()}
        return [self.hide(one) for one in value] if isinstance(value, list | tuple) else value

    def pieces(self, text: str) -> list[Piece]:
        """A rendering, told apart into what stood in for a row's text and the rest."""
        if not self._texts:
            return [Piece(text, is_user=False)] if text else []
        pieces, place = [], 0
        for found in _PRIVATE.finditer(text):
            pieces.append(Piece(text[place : found.start()], is_user=False))
            pieces.append(Piece(self._texts[ord(found[0]) - _FIRST], is_user=True))
            place = found.end()
        return [piece for piece in (*pieces, Piece(text[place:], is_user=False)) if piece.text]

    def shown(self, text: str) -> str:
        """A rendering as it reads."""
        return "".join(piece.text for piece in self.pieces(text))

    def _hidden(self, text: str) -> str:
        if not self._encoder.may_hold_token(text) and not _PRIVATE.search(text):
            return text
        # Templates ask for names of fields and kinds of things, in which no mark of a token begins or ends.
        start, end = (0, 0) if text.isidentifier() else self._encoder.token_edges(text)
        inner = text[start : len(text) - end]
        inner = _PRIVATE.sub(lambda found: self._sign(found[0]), inner)
        inner = self._encoder.replace_tokens(inner, self._sign)
        return (self._sign(text[:start]) if start else "") + inner + (self._sign(text[-end:]) if end else "")

    def _sign(self, text: str) -> str:
        if text not in self._signs:
            if _FIRST + len(self._texts) > _LAST:
                raise MalformedRow(
                    f"more than {len(self._texts)} different control tokens are spelled out in its texts"
                )
            self._signs[text] = chr(_FIRST + len(self._texts))
            self._texts.append(text)
        return self._signs[text]
