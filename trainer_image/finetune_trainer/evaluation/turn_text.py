"""Prompt and response of a turn as people read them."""

from __future__ import annotations

import json

from finetune_trainer.data.example import Example


def prompt_text(turn: Example) -> str:
    """What the user says last; where no user speaks, whoever does."""
    said = [message for message in turn.prompt if message.role == "user"] or turn.prompt
    return said[-1].content if said else ""


def expected_text(turn: Example) -> str:
    """The response as people read it: its text, without thoughts, as answers have none, or the tools that it calls."""
    text = turn.response
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2].strip() or text
    if text or not turn.messages:
        return text
    return json.dumps(turn.messages[-1].extra.get("tool_calls", ""), ensure_ascii=False)
