"""What we call on a tokenizer, whichever library it comes from, so that mypy checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class AddedToken(Protocol):
    """A token that is matched whole before the rest of a text is split."""

    content: str
    special: bool
    lstrip: bool
    rstrip: bool


class Encoding(Protocol):
    """Token ids of several texts."""

    input_ids: list[list[int]]


class Tokenizer(Protocol):
    """A transformers tokenizer."""

    chat_template: str | dict[str, str] | None
    padding_side: str
    pad_token: str | None
    pad_token_id: int | None
    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    unk_token_id: int | None
    is_fast: bool
    split_special_tokens: bool
    backend_tokenizer: Any  # of a fast one: the Rust library's, which has no types

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...

    def __call__(self, text: Any, **options: Any) -> Encoding: ...

    def __len__(self) -> int: ...

    def get_vocab(self) -> Mapping[str, int]: ...

    def add_tokens(self, new_tokens: list[str], *, special_tokens: bool) -> int: ...

    def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...

    # What a template gives depends on the options: text, or token ids.
    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, Any]], *, strftime_now: Callable[[str], str], **options: Any
    ) -> Any: ...

    def save_pretrained(self, save_directory: str | Path) -> object: ...
