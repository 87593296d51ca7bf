"""One turn of a raw conversation, as messages: who speaks, what is said, and whether the loss may see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.data.example import ASSISTANT, Message, Role
from finetune_trainer.data.formats.cells import CellError, clean, present, shown, text_of, trimmed
from finetune_trainer.data.formats.parts import Content, content_of
from finetune_trainer.data.formats.tool_calls import calls_of

SYSTEM, USER, TOOL = "system", "user", "tool"
# What speakers are called, in the terms of chat templates.
_ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "function_call", "tool_call"), ASSISTANT),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "ipython"), TOOL),
}
_CALLERS = ("function_call", "tool_call")  # ShareGPT's speakers whose text is a call, as JSON
_CONTENT = ("content", "value", "parts", "text", "refusal")
_PLAIN = ({"role", "content"}, {"from", "value"})  # what nearly all turns have, and no more
_REASONING = ("reasoning_content", "reasoning", "thinking")
# Whether the loss may see a turn: of OpenAI, Mistral and Together (weight), Axolotl (train, training), ms-swift (loss).
_TRAIN = ("train", "training", "weight", "loss", "train_on_turn")
_TRAIN_PARTS = ("train_detail", "training_detail")  # Axolotl: the same for pieces of a turn


@dataclass(frozen=True)
class Turn:
    """A message and the place in the row that it comes from."""

    number: int  # from 1; 0 where it stands beside the turns
    message: Message
    goes_on: bool = False  # calls a tool for the assistant's turn before, where there is one


def read_turn(raw: object, number: int, column: str) -> Iterator[Turn]:
    """The messages of a turn: one, but for results of tools that a service lets the user say. Raises CellError."""
    what = f"turn {number} "
    if not isinstance(raw, Mapping):
        raise CellError(column, f"{what}must be an object with a role and a content, not {shown(raw)}")
    fields = present(raw)
    speaker = _speaker(fields, column, what)
    role = _ROLES[speaker]
    content = _content(fields, speaker, column, what)
    if content.calls and role != ASSISTANT:
        raise CellError(column, f"{what}({role}) calls a tool: only the assistant may")
    if content.results and role not in (USER, TOOL):
        raise CellError(column, f"{what}({role}) answers for a tool: give the answer a turn of the role tool")
    for result in content.results:
        yield Turn(number, Message(TOOL, result.text, extra=result.extra))
    text = content.text if role == TOOL else trimmed(content.text)
    if not text and (content.results or role == SYSTEM):
        return  # an empty system turn is like an empty column beside the turns
    if not text and not content.calls and role != TOOL:
        raise CellError(column, f"{what}({role}) says nothing: give it a text, or take the row out")
    if fields.keys() in _PLAIN and not (content.calls or content.thoughts):
        message = Message(role, text)
    else:
        message = Message(role, text, _may_train(fields, column, what), _extra(fields, content, column, what))
    yield Turn(number, message, speaker in _CALLERS)


def _speaker(fields: Mapping[str, Any], column: str, what: str) -> Role:
    name = fields.get("role", fields.get("from"))
    speaker = name.strip().lower() if isinstance(name, str) else ""
    if speaker not in _ROLES:
        known = "system, user, assistant, tool; human, gpt"
        problem = f"has the role {shown(name)}" if name is not None else "has no role"
        raise CellError(column, f"{what}{problem}: name one of {known}")
    return speaker


def _content(fields: Mapping[str, Any], speaker: str, column: str, what: str) -> Content:
    """What the turn holds; calls of tools also where they stand beside the content."""
    held = next((fields[key] for key in _CONTENT if key in fields), "")
    if speaker in _CALLERS:
        return Content(calls=calls_of(held, column, what))
    content = content_of(held, column, what)
    if calls := fields.get("tool_calls") or fields.get("function_call"):
        content.calls += calls_of(calls, column, what)
    return content


def _extra(fields: Mapping[str, Any], content: Content, column: str, what: str) -> dict[str, Any]:
    """What else a chat template may print of the turn, by the names that it goes by there."""
    extra: dict[str, Any] = {"tool_calls": content.calls} if content.calls else {}
    thoughts = next((fields[key] for key in _REASONING if fields.get(key)), "\n".join(content.thoughts))
    if not isinstance(thoughts, str):
        raise CellError(column, f"{what}has a reasoning that is no text: {shown(thoughts)}")
    if thoughts := trimmed(clean(thoughts, column, f"{what}reasoning ")):
        extra["reasoning_content"] = thoughts
    for name in ("name", "tool_call_id"):
        if fields.get(name):
            extra[name] = text_of(fields[name], column, f"{what}{name} ")
    return extra


def _may_train(fields: Mapping[str, Any], column: str, what: str) -> bool:
    for name in _TRAIN_PARTS:
        if fields.get(name):
            raise CellError(column, f"{what}has {name}: a turn is trained on whole or not at all; set train instead")
    flags = {name: fields[name] for name in _TRAIN if name in fields}
    for name, flag in flags.items():
        if not isinstance(flag, int | float) or flag not in (0, 1):  # True is 1
            raise CellError(column, f"{what}{name} must be true or false, 1 or 0, not {shown(flag)}")
    if len({bool(flag) for flag in flags.values()}) > 1:
        raise CellError(column, f"{what}says both to train on it and not to: {' and '.join(flags)} differ; keep one")
    return all(flags.values())
