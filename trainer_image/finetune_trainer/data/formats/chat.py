"""Format Chat: conversations, as hosted services take them (``messages``) or as ShareGPT wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import ChatRows
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.formats.cells import CellError, cell, clean, decoded, optional_text, shown, text_of

SYSTEM, USER, TOOL = "system", "user", "tool"
# What speakers are called, in the terms of chat templates.
ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "function_call", "tool_call"), ASSISTANT),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "ipython"), TOOL),
}
_CALLS = ("function_call", "tool_call")  # ShareGPT's speakers whose text is a call, as JSON
_ROLE, _CONTENT = ("role", "from"), ("content", "value", "parts")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_TRAIN = ("train", "training", "weight")
# Where a dataset names no column for the turns.
_COLUMNS = ("messages", "conversations", "contents")


def parse(row: Mapping[str, Any], rows: ChatRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    column = rows.columns.messages or next((name for name in _COLUMNS if name in row), _COLUMNS[0])
    turns = decoded(cell(row, column), column)
    if not isinstance(turns, list) or not turns:
        raise CellError(column, f"must be a list of turns, not {shown(turns)}")
    messages = [_message(turn, number, column) for number, turn in enumerate(turns, start=1)]
    if system := optional_text(row, rows.columns.system):
        if messages[0].role == SYSTEM:
            raise CellError(rows.columns.system, f"column {column!r} begins with a system turn, too: keep one of them")
        messages.insert(0, Message(SYSTEM, system))
    _check_order(messages, column)
    tools = _tools(row, rows.columns.tools)
    return Example(
        messages=tuple(messages),
        tools=tools,
        question="\n".join(message.content for message in messages if message.role == USER),
        sha256=sha256_of([[[one.role, one.content, one.train, one.extra] for one in messages], list(tools)]),
    )


def _message(turn: object, number: int, column: str) -> Message:
    what = f"turn {number} "
    if not isinstance(turn, Mapping):
        raise CellError(column, f"{what}must be an object with a role and a content, not {shown(turn)}")
    fields = {str(name): value for name, value in turn.items() if value is not None}  # Parquet fills gaps with null
    speaker = next((fields[name] for name in _ROLE if name in fields), None)
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        known = "system, user, assistant, tool; human, gpt"
        raise CellError(column, f"{what}has the role {shown(speaker)}; there are {known}")
    content, reasoning = _content(next((fields[name] for name in _CONTENT if name in fields), ""), column, what)
    extra: dict[str, Any] = {}
    if speaker in _CALLS:
        extra["tool_calls"], content = _calls(decoded(content, column), column, what), ""
    elif calls := fields.get("tool_calls") or fields.get("function_call"):
        extra["tool_calls"] = _calls(decoded(calls, column), column, what)
    if reasoning := next((fields[name] for name in _REASONING if fields.get(name)), reasoning):
        extra["reasoning_content"] = text_of(reasoning, column, f"{what}reasoning ")
    for name in ("name", "tool_call_id"):
        if fields.get(name):
            extra[name] = text_of(fields[name], column, f"{what}{name} ")
    if not content.strip() and not extra.get("tool_calls"):
        raise CellError(column, f"{what}({role}) says nothing: take the row out, or give the turn a content")
    if extra.get("tool_calls") and role != ASSISTANT:
        raise CellError(column, f"{what}({role}) calls a tool: only the assistant may")
    return Message(role, content, _train(fields, column, what), extra)


def _content(value: object, column: str, what: str) -> tuple[str, str]:
    """A turn's text and its reasoning; services also write either as parts."""
    if isinstance(value, list):
        texts: list[str] = []
        thoughts: list[str] = []
        for part in value:
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
            said = (part.get(kind) or part.get("content")) if isinstance(part, Mapping) else part
            if kind not in ("text", "thinking") or not isinstance(said, str):
                raise CellError(column, f"{what}has a part {shown(part)}: only text can be trained on")
            (texts if kind == "text" else thoughts).append(said)
        return clean("".join(texts), column, what), "".join(thoughts)
    if not isinstance(value, str):
        raise CellError(column, f"{what}must have a text as its content, not {shown(value)}")
    return clean(value, column, what), ""


def _calls(value: object, column: str, what: str) -> list[dict[str, Any]]:
    """Calls of tools as chat templates read them: arguments are an object, not its text."""
    calls = value if isinstance(value, list) else [value]
    return [_call(call, column, what) for call in calls]


def _call(call: object, column: str, what: str) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str):
        raise CellError(column, f"{what}calls a tool without naming it: {shown(call)}")
    arguments = inner.get("arguments", inner.get("parameters"))
    arguments = {} if arguments in (None, "") else decoded(arguments, column)
    if not isinstance(arguments, Mapping):
        raise CellError(column, f"{what}calls {shown(name)} with arguments that are no object: {shown(arguments)}")
    function = {"name": clean(name, column, what), "arguments": _cleaned(arguments, column, what)}
    named = {"id": str(call["id"])} if isinstance(call, Mapping) and call.get("id") else {}
    return {**named, "type": "function", "function": function}


def _tools(row: Mapping[str, Any], column: str) -> tuple[Mapping[str, Any], ...]:
    value = row.get(column)
    if value is None or value == "":
        return ()
    tools = decoded(value, column)
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise CellError(column, f"must be a list of tools, not {shown(tools)}")
    # A bare function, as early services took it, becomes what templates read.
    whole = [
        tool if "function" in tool or "name" not in tool else {"type": "function", "function": tool} for tool in tools
    ]
    return tuple(_cleaned(tool, column, "") for tool in whole)


def _cleaned(value: Any, column: str, what: str) -> Any:
    """A value of JSON with all its texts checked, and without the nulls that Parquet fills gaps with."""
    if isinstance(value, str):
        return clean(value, column, what)
    if isinstance(value, Mapping):
        return {
            clean(str(name), column, what): _cleaned(one, column, what)
            for name, one in value.items()
            if one is not None
        }
    return [_cleaned(one, column, what) for one in value] if isinstance(value, list) else value


def _train(fields: Mapping[str, Any], column: str, what: str) -> bool:
    for name in _TRAIN:
        if name in fields:
            if fields[name] not in (0, 1):  # True is 1
                raise CellError(column, f"{what}{name} must be true or false, 1 or 0, not {shown(fields[name])}")
            return bool(fields[name])
    return True


def _check_order(messages: list[Message], column: str) -> None:
    for problem in _problems(messages):
        raise CellError(column, problem)


def _problems(messages: list[Message]) -> Iterator[str]:
    """What is wrong with the order of turns, each with what to do."""
    first = 1 if messages[0].role == SYSTEM else 0
    for number, message in enumerate(messages[first:], start=first + 1):
        before, role = messages[number - 2].role if number > first + 1 else "", message.role
        if role == SYSTEM:
            yield f"turn {number} is a system turn: there may be one, at the beginning"
        if not before and role != USER:
            yield f"turn {number} is the {role}'s: the user's must come first"
        if role == before and role != TOOL:
            yield f"turns {number - 1} and {number} are both the {role}'s: join them"
        if role == TOOL and before == USER:
            yield f"turn {number} is a tool's, and no assistant called it"
        if role == USER and before == TOOL:
            yield f"turn {number} is the user's: after a tool's comes the assistant's"
    if messages[-1].role != ASSISTANT:
        yield f"the last turn is the {messages[-1].role}'s: there is nothing to learn after it, so take it out"
    if not any(message.train for message in messages if message.role == ASSISTANT):
        yield "no turn of the assistant may be trained on: all say train: false"
