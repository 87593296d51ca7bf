"""Tools and calls of them, as chat templates read them, whichever service wrote them down.

Templates know OpenAI's way: a call is ``{"type": "function", "function": {"name", "arguments"}}`` with arguments as an
object, a tool the same with ``{"name", "description", "parameters"}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_trainer.data.formats.cells import CellError, decoded, json_value, present, shown, text_of

# What OpenAI, Anthropic, Vertex and Bedrock call the same things.
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_SCHEMA = ("parameters", "input_schema", "inputSchema")
_CALL_IDS = ("id", "tool_call_id", "toolUseId")
_DECLARED = ("functionDeclarations", "function_declarations")  # Vertex: several functions in one tool
_WRAPPED = ("function", "toolSpec")


def calls_of(value: object, column: str, what: str) -> list[dict[str, Any]]:
    """Calls that an assistant's turn makes: a list of them, one, or either as JSON text. Raises CellError."""
    calls = decoded(value, column, what)
    return [_call(call, column, what) for call in (calls if isinstance(calls, list) else [calls])]


def _call(call: object, column: str, what: str) -> dict[str, Any]:
    fields = present(call) if isinstance(call, Mapping) else {}
    inner = fields.get("function")
    function = present(inner) if isinstance(inner, Mapping) else fields
    if not isinstance(function.get("name"), str):
        raise CellError(column, f"{what}calls a tool without naming it: {shown(call)}")
    name = text_of(function["name"], column, f"{what}the name of a tool ")
    made = {"type": "function", "function": {"name": name, "arguments": _arguments(function, column, what)}}
    number = next((fields[key] for key in _CALL_IDS if key in fields), None)
    return made if number is None else {"id": text_of(str(number), column, f"{what}the id of a call "), **made}


def _arguments(function: Mapping[str, Any], column: str, what: str) -> dict[str, Any]:
    """The arguments of a call. Written as text they keep their nulls, which in an object stand for what isn't there."""
    given = next((function[key] for key in _ARGUMENTS if key in function), None)
    is_text = isinstance(given, str)
    arguments = {} if given is None or (is_text and not given.strip()) else decoded(given, column, what)
    if not isinstance(arguments, Mapping):
        problem = f"{what}calls {shown(function['name'])} with arguments that are no object: {shown(arguments)}"
        raise CellError(column, problem)
    found: dict[str, Any] = json_value(arguments, column, what, keeps_null=is_text)
    return found


def tools_of(value: object, column: str) -> tuple[Mapping[str, Any], ...]:
    """Tools that the assistant may call: a list of them, perhaps as JSON text. Raises CellError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    tools = decoded(value, column)
    if isinstance(tools, Mapping) and isinstance(tools.get("tools"), list):  # Bedrock's toolConfig
        tools = tools["tools"]
    if not isinstance(tools, list):
        raise CellError(column, f"must be a list of tools, not {shown(tools)}")
    declared = (one for number, tool in enumerate(tools, start=1) for one in _declared(tool, number, column))
    return tuple(_tool(tool, number, column, isinstance(value, str)) for number, tool in declared)


def _declared(tool: object, number: int, column: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not isinstance(tool, Mapping):
        raise CellError(column, f"tool {number} must be an object with a name, not {shown(tool)}")
    several = next((tool[key] for key in _DECLARED if isinstance(tool.get(key), list)), [tool])
    for one in several:
        if not isinstance(one, Mapping):
            raise CellError(column, f"tool {number} declares {shown(one)}, which is no function")
        yield number, one


def _tool(tool: Mapping[str, Any], number: int, column: str, keeps_null: bool) -> dict[str, Any]:
    what = f"tool {number} "
    inner = next((tool[key] for key in _WRAPPED if isinstance(tool.get(key), Mapping)), None)
    spec = dict(tool if inner is None else inner)
    if inner is None:
        spec.pop("type", None)
    if not isinstance(spec.get("name"), str):
        raise CellError(column, f"{what}has no name: {shown(tool)}")
    given = [spec.pop(key) for key in _SCHEMA if key in spec]
    schema = next((decoded(one, column, what) for one in given if one is not None), None)
    if isinstance(schema, Mapping) and isinstance(schema.get("json"), Mapping):  # Bedrock
        schema = schema["json"]
    if schema is not None:
        spec["parameters"] = schema
    return {"type": "function", "function": json_value(spec, column, what, keeps_null=keeps_null)}
