"""What a turn holds, where a service writes it in parts: texts, thoughts, calls of tools and their results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.data.formats.cells import CellError, clean, json_value, present, shown
from finetune_trainer.data.formats.tool_calls import calls_of

_TEXTS = ("text", "input_text", "output_text", "refusal")
_THOUGHTS = ("thinking", "reasoning", "reasoningContent", "reasoningText")
_CALLS = ("tool_use", "toolUse", "functionCall")
_RESULTS = ("tool_result", "toolResult", "functionResponse")
_RESULT_IDS = ("tool_use_id", "toolUseId")
_HELD = ("content", "response", "output")


@dataclass(frozen=True)
class Result:
    """What a tool answered."""

    text: str
    extra: dict[str, Any]  # tool_call_id and name, where they stand


@dataclass
class Content:
    """What a turn holds, in the order of its kinds."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The texts as one: servers put parts on lines of their own."""
        return "\n".join(self.texts)


def content_of(value: object, column: str, what: str) -> Content:
    """Reads a turn's content: a text, a list of parts, or an object with them. Raises CellError."""
    if isinstance(value, str):
        return Content([clean(value, column, what)])
    found = Content()
    if isinstance(value, Mapping) and isinstance(value.get("parts"), list):  # Vertex
        value = value["parts"]
    if not isinstance(value, list):
        raise CellError(column, f"{what}must have a text as its content, not {shown(value)}")
    for number, part in enumerate(value, start=1):
        _read(part, found, column, what, f"part {number}")
    return found


def _read(part: object, found: Content, column: str, what: str, named: str) -> None:
    if isinstance(part, str):
        found.texts.append(clean(part, column, what))
        return
    fields = present(part) if isinstance(part, Mapping) else {}
    # OpenAI, Anthropic and Mistral name a part's type; Bedrock and Vertex have a field of that name.
    kind = fields.get("type") or next((key for key in (*_TEXTS, *_THOUGHTS, *_CALLS, *_RESULTS) if key in fields), None)
    if kind in _TEXTS and isinstance(said := fields.get(kind, fields.get("text")), str):
        thinks = fields.get("thought") is True  # Vertex
        (found.thoughts if thinks else found.texts).append(clean(said, column, what))
    elif kind in _THOUGHTS:
        found.thoughts.append(_thought(fields, column, f"{what}{named} "))
    elif kind in _CALLS:
        found.calls += calls_of(fields.get(kind, fields), column, what)
    elif kind in _RESULTS:
        found.results.append(_result(fields.get(kind, fields), column, f"{what}{named} "))
    else:
        of = f"of type {shown(kind)}" if kind else shown(part)
        raise CellError(column, f"{what}has a part {of}: only text can be trained on; take the row out")


def _thought(value: object, column: str, what: str) -> str:
    """The text somewhere in a thought: Mistral and Bedrock put it into further objects."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in (*_THOUGHTS, "text") if value.get(key) is not None), None)
        return _thought(value, column, what)
    if isinstance(value, list):
        return "".join(_thought(one, column, what) for one in value)
    if not isinstance(value, str):
        raise CellError(column, f"{what}thinks no text: {shown(value)}")
    return clean(value, column, what)


def _result(result: object, column: str, what: str) -> Result:
    if not isinstance(result, Mapping):
        raise CellError(column, f"{what}must be an object with a tool's answer, not {shown(result)}")
    fields = present(result)
    held = next((fields[key] for key in _HELD if key in fields), "")
    number = next((fields[key] for key in _RESULT_IDS if key in fields), None)
    extra = {"tool_call_id": number, "name": fields.get("name")}
    named = {key: clean(str(value), column, what) for key, value in extra.items() if value is not None}
    return Result(_answer(held, column, what), named)


def _answer(held: object, column: str, what: str) -> str:
    """What a tool answered as text: its own, that of its parts, or JSON of what it is."""
    if isinstance(held, str):
        return clean(held, column, what)
    if isinstance(held, list) and all(isinstance(part, Mapping) for part in held):
        parts = [present(part) for part in held]
        if all("text" in part or "json" in part for part in parts):
            return "\n".join(_answer(part.get("text", part.get("json")), column, what) for part in parts)
        raise CellError(column, f"{what}holds {shown(held)}: only text can be trained on; take the row out")
    return json.dumps(json_value(held, column, what), ensure_ascii=False)
