"""Chats: a tokenizer with a template, read as the trainer reads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from finetune_trainer.data.chat_format import ChatFormat
from tokenizer_kinds import CHATS, make_tokenizer, read_format

ReadChat = Callable[..., ChatFormat]


@pytest.fixture(scope="session", autouse=True)
def _unsloth_first(trainer_environment: None) -> None:
    """Before transformers, as in the trainer."""
    import unsloth  # noqa: F401


@pytest.fixture(scope="session")
def read_chat() -> ReadChat:
    """Gives the format of a chat's template on a kind of tokenizer."""

    @cache
    def make(name: str, kind: str = "byte-level BPE", **how: Any) -> ChatFormat:
        chat = CHATS[name]
        return read_format(make_tokenizer(kind, chat, **how), **dict(chat.variables))

    return make
