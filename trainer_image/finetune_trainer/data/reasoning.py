"""What an assistant's turn thinks, told apart from what it says."""

from __future__ import annotations

from dataclasses import replace

from finetune_trainer.data.example import ASSISTANT, Message

OPEN, CLOSE = "<think>", "</think>"
FIELD = "reasoning_content"  # of Message.extra


def with_reasoning(message: Message) -> Message:
    """The message with what stands between <think> and </think> at its beginning as ``reasoning_content``."""
    text = message.content.lstrip()
    if message.role != ASSISTANT or not text.startswith(OPEN) or FIELD in message.extra:
        return message
    thought, closed, said = text.removeprefix(OPEN).partition(CLOSE)
    if not closed or not thought.strip():
        return message
    return replace(message, content=said.strip(), extra={**message.extra, FIELD: thought.strip()})


def reasoning_of(message: Message) -> str:
    """What a message thinks, "" where it says nothing of it."""
    return str(message.extra.get(FIELD, "")).strip()
