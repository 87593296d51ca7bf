"""Any JSON value as a row, and any cell in a good row: an Example, or one line that says what is wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_api.row_formats import ROW_FORMATS
from finetune_trainer.data.example import Example, MalformedRow
from finetune_trainer.data.formats import parse_row

# JSON can write halves of surrogate pairs, and Python reads NaN.
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20) | st.sampled_from(
    ["", " ", "\ufeff", "A", "0", "user", "assistant", "tool", "[]", "{}", '[{"role": "user"}]', "null", "\r\n", "\x00"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
NAMES = (
    TEXTS
    | st.sampled_from(
        ["role", "from", "content", "value", "parts", "text", "type", "tool_calls", "function", "function_call", "name"]
    )
    | st.sampled_from(
        ["arguments", "weight", "train", "reasoning", "label", "toolResult", "functionResponse", "thinking", "json"]
    )
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
GOOD: dict[str, dict[str, Any]] = {
    "MultipleChoice": {"question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "two", "answer_idx": "B"},
    "Chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
            {"role": "tool", "content": "4", "tool_call_id": "c1"},
            {"role": "assistant", "content": "4", "reasoning": "Two and two."},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
    },
    "Instruction": {"instruction": "Add.", "input": "2, 2", "output": "4", "system": "Be brief."},
    "Text": {"text": "Once"},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could stand instead, from the outermost in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in inner for place in places(one, (*path, name)))]


def with_value(row: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    row = copy.deepcopy(row)
    holder = row
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return row


def check(name: str, raw: Any) -> Example | None:
    """Reads the row, and checks what comes of it, whatever it is."""
    before = copy.deepcopy(raw)
    try:
        example = parse_row(raw, ROW_FORMATS[name](), "row 1")
    except MalformedRow as error:
        text = str(error)
        assert text.startswith("row 1: ")
        assert text.isprintable()
        assert len(text) < 800
        return None
    finally:
        assert repr(raw) == repr(before)  # NaN is not equal to itself
    texts = [message.content for message in example.messages] + [example.question, example.text or ""]
    for text in texts:
        text.encode()
        assert not any(sign != "\n" and sign != "\t" and ord(sign) < 32 for sign in text)
    assert example.response or example.messages[-1].extra["tool_calls"]
    json.dumps([dict(message.extra) for message in example.messages] + list(example.tools), allow_nan=False).encode()
    return example


@pytest.mark.parametrize("name", GOOD)
def test_the_row_to_change_is_a_good_one(name: str) -> None:
    assert check(name, GOOD[name])


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=80, deadline=1000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(raw=VALUES)
def test_any_value_is_a_row_or_is_refused_in_one_line(name: str, raw: Any) -> None:
    check(name, raw)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=150, deadline=1000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_anything_anywhere_in_a_good_row_leaves_a_row_or_one_line(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(GOOD[name])))
    check(name, with_value(GOOD[name], path, data.draw(VALUES)))


SAID = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.strip() == text)


@settings(max_examples=100, deadline=1000, derandomize=True)
@given(texts=st.lists(SAID.filter(lambda text: not text.startswith("\ufeff")), min_size=2, max_size=8))
def test_texts_of_turns_come_back_as_they_were(texts: list[str]) -> None:
    said = texts if len(texts) % 2 == 0 else texts[:-1]
    roles = ["user", "assistant"] * (len(said) // 2)
    raw = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    for row in ({"messages": raw}, {"messages": json.dumps(raw)}):
        example = parse_row(row, ROW_FORMATS["Chat"](), "row 1")
        assert [(one.role, one.content) for one in example.messages] == list(zip(roles, said, strict=True))


@settings(max_examples=100, deadline=1000, derandomize=True)
@given(text=SAID.filter(lambda text: not text.startswith("\ufeff")))
def test_a_text_comes_back_from_every_format(text: str) -> None:
    assert parse_row({"text": text}, ROW_FORMATS["Text"](), "row 1").text == text
    raw: dict[str, Any] = {"instruction": text, "output": text}
    assert parse_row(raw, ROW_FORMATS["Instruction"](), "row 1").messages[0].content == text
    raw = {"question": text, "options": [text, f"{text} not"], "answer_idx": "A"}
    example = parse_row(raw, ROW_FORMATS["MultipleChoice"](), "row 1")
    assert example.question == text
    assert example.choices
    assert [option.text for option in example.choices.options] == [text, f"{text} not"]
