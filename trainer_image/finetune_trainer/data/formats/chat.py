"""Format Chat: conversations, as hosted services take them (``messages``) or as ShareGPT wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.row_formats import ChatRows
from finetune_trainer.data.example import ASSISTANT, Example, Message
from finetune_trainer.data.formats.cells import CellError, cell, decoded, shown, trimmed
from finetune_trainer.data.formats.parts import content_of
from finetune_trainer.data.formats.tool_calls import tools_of
from finetune_trainer.data.formats.turns import SYSTEM, TOOL, USER, Turn, read_turn

# Where rows have these things while the dataset names no column for them: OpenAI, ShareGPT, Vertex.
_TURNS = ("messages", "conversations", "contents")
_SYSTEM = ("system", "systemInstruction", "system_instruction")
_TOOLS = ("tools", "functions", "toolConfig")


def parse(row: Mapping[str, Any], rows: ChatRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    columns = rows.columns
    column = _column(row, columns.messages or _TURNS[0], _TURNS)
    raw = decoded(cell(row, column), column)
    if not isinstance(raw, list) or not raw:
        raise CellError(column, f"must be a list of turns, not {shown(raw)}")
    turns = _joined(_turns(raw, column), column)
    turns = _with_system(turns, row, _column(row, columns.system, _SYSTEM), column)
    if problem := _problem(turns):
        raise CellError(column, problem)
    tools_column = _column(row, columns.tools, _TOOLS)
    tools = tools_of(row.get(tools_column), tools_column)
    messages = tuple(turn.message for turn in turns)
    return Example(
        messages=messages,
        tools=tools,
        # All of them: a first "Hi" is what many conversations share, and a last "Thanks" as well.
        question="\n".join(message.content for message in messages if message.role == USER),
        sha256=sha256_of([[[one.role, one.content, one.train, one.extra] for one in messages], list(tools)]),
    )


def _column(row: Mapping[str, Any], named: str, names: tuple[str, ...]) -> str:
    """The column that the dataset names; where that is the usual one, the first of ``names`` that holds something."""
    if named != names[0]:
        return named
    return next((name for name in names if row.get(name) is not None), named)


def _turns(raw: list[object], column: str) -> Iterator[Turn]:
    for number, one in enumerate(raw, start=1):
        yield from read_turn(one, number, column)


def _joined(turns: Iterable[Turn], column: str) -> list[Turn]:
    """The turns, with calls of tools that have turns of their own as part of the assistant's turn before."""
    found: list[Turn] = []
    for turn in turns:
        if not (turn.goes_on and found and found[-1].message.role == ASSISTANT):
            found.append(turn)
            continue
        before = found[-1].message
        if before.train != turn.message.train:
            numbers = f"turns {found[-1].number} and {turn.number}"
            raise CellError(column, f"{numbers} are one turn of the assistant: train on both or on none")
        calls = [*before.extra.get("tool_calls", ()), *turn.message.extra["tool_calls"]]
        found[-1] = replace(found[-1], message=replace(before, extra={**before.extra, "tool_calls": calls}))
    return found


def _with_system(turns: list[Turn], row: Mapping[str, Any], named: str, column: str) -> list[Turn]:
    """The turns behind the system prompt that stands beside them, where there is one."""
    beside = row.get(named)
    text = "" if beside is None else trimmed(content_of(beside, named, "").text)
    if not text:
        return turns
    if any(turn.message.role == SYSTEM for turn in turns):
        raise CellError(named, f"column {column!r} has a system turn, too: keep one of them")
    return [Turn(0, Message(SYSTEM, text)), *turns]


def _problem(turns: list[Turn]) -> str | None:
    """What is wrong with the order of turns, and what to do; None where a model can learn from them."""
    spoken = [turn for turn in turns if turn.message.role != SYSTEM]
    said = [turn for turn in spoken if turn.message.role == ASSISTANT]
    if not said:
        return "no turn is the assistant's, so that there is nothing to learn: take the row out"
    if late := next((turn for turn in turns[1:] if turn.message.role == SYSTEM), None):
        if turns[0].message.role == SYSTEM:
            return f"turn {late.number} is a second system turn: join them into one at the beginning"
        return f"turn {late.number} is a system turn behind others: put it at the beginning"
    if spoken[0].message.role != USER:
        role = spoken[0].message.role
        return f"turn {spoken[0].number} is the {role}'s, and no user spoke before: begin with the user's turn"
    for before, turn in pairwise(spoken):
        if problem := _out_of_order(before, turn):
            return problem
    if spoken[-1] is not said[-1]:
        role, number = spoken[-1].message.role, said[-1].number
        return (
            f"the last turn is the {role}'s: there is nothing to learn behind the assistant's turn {number}; end there"
        )
    if not any(turn.message.train for turn in said):
        return "no turn of the assistant may be trained on, as each says so: take the row out"
    return None


def _out_of_order(before: Turn, turn: Turn) -> str | None:
    """Results of tools may follow each other, and a user may speak after one; a call needs no result."""
    role = turn.message.role
    if role == before.message.role != TOOL:
        return f"turns {before.number} and {turn.number} are both the {role}'s: join them into one"
    if role == TOOL and before.message.role == USER:
        return f"turn {turn.number} is a tool's right after the user's: put the assistant's call between them"
    return None
