"""What all formats share: where a row comes from, its name, its place, and cells that no JSON holds."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

import raw_rows
from finetune_api.dataset import TextDataset
from finetune_api.row_formats import ROW_FORMATS
from finetune_trainer.data.formats import READERS, optional_columns, parse_row

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ROWS: dict[str, dict[str, Any]] = {
    "MultipleChoice": {"question": "Which?", "options": ["one", "two"], "answer_idx": 0},
    "Chat": {"messages": CHAT},
    "Instruction": {"instruction": "Say 4.", "output": "4"},
    "Text": {"text": "Once"},
}


def test_every_format_of_the_contract_has_a_reader() -> None:
    assert set(READERS) == set(ROW_FORMATS) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_every_format_keeps_place_name_and_provenance_of_a_row(name: str) -> None:
    raw = {**ROWS[name], "origin": "human", "key": 12}
    example = raw_rows.read(name, raw, columns={"provenance": "origin", "id": "key"})
    assert (example.where, example.id, example.provenance) == (raw_rows.PLACE, "12", "Human")
    plain = raw_rows.read(name, ROWS[name])
    assert (plain.id, plain.provenance) == (None, None)
    assert plain.sha256 == example.sha256
    assert len(plain.sha256) == 64


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("Human", "Human"),
        ("human", "Human"),
        ("human-written", "HumanWritten"),
        (" synthetic data\n", "SyntheticData"),
        ("GPT4o", "GPT4o"),
        ("v1.synthetic/web_crawl", "V1SyntheticWebCrawl"),
        ("", None),
        (None, None),
    ],
)
def test_provenance_is_one_word_in_camel_case(cell: object, word: str | None) -> None:
    assert raw_rows.read("Text", {"text": "x", "origin": cell}, columns={"provenance": "origin"}).provenance == word


def test_a_row_without_provenance_has_that_of_its_dataset() -> None:
    dataset = TextDataset.model_validate(
        {"source": "pvc://data/rows.jsonl", "provenance": "Synthetic", "columns": {"provenance": "origin"}}
    )
    rows: list[dict[str, Any]] = [{"text": "x"}, {"text": "x", "origin": ""}, {"text": "x", "origin": "Feedback"}]
    assert [parse_row(row, dataset, "row 1").provenance for row in rows] == ["Synthetic", "Synthetic", "Feedback"]


@pytest.mark.parametrize("cell", ["größe", "4chan", "a" * 33, "---", "who?"])
def test_what_is_no_word_is_no_provenance(cell: str) -> None:
    text = raw_rows.problem("Text", {"text": "x", "origin": cell}, columns={"provenance": "origin"})
    words = "column 'origin': must be a word of at most 32 letters and digits, such as Human, not "
    assert text == f"{words}{cell!r}"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "column 'key': missing: the row has text"),
        ({"key": ""}, "column 'key': must be a text that is not empty, not ''"),
        ({"key": 1.5}, "column 'key': must be a text that is not empty, not 1.5"),
        ({"key": True}, "column 'key': must be a text that is not empty, not True"),
    ],
)
def test_a_row_must_have_the_name_that_the_dataset_promises(raw: dict[str, Any], words: str) -> None:
    assert raw_rows.problem("Text", {"text": "x", **raw}, columns={"id": "key"}).startswith(words)


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), Decimal("1.5"), b"x", float("nan"), (1, 2)])
def test_what_parquet_holds_and_json_does_not_is_refused_in_arguments_and_tools(value: object) -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": {"a": value}}}
    text = raw_rows.problem("Chat", {"messages": [CHAT[0], call]})
    assert text == f"column 'messages': turn 2 holds {value!r}, which JSON can't: write it as text"
    text = raw_rows.problem("Chat", {"messages": CHAT, "tools": [{"name": "f", "parameters": {"a": value}}]})
    assert text == f"column 'tools': tool 1 holds {value!r}, which JSON can't: write it as text"


def deep(levels: int, innermost: object = None) -> Any:
    value = innermost
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("levels", [100, 20_000])
def test_lists_and_objects_without_end_are_refused(levels: int) -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": deep(levels, "x")}}
    assert "deep in each other" in raw_rows.problem("Chat", {"messages": [CHAT[0], call]})
    for name, raw in ROWS.items():
        first = next(iter(raw))
        raw_rows.problem(name, {**raw, first: deep(levels, "x")})


def test_names_of_columns_stay_on_one_line_whatever_they_hold() -> None:
    text = raw_rows.problem("Text", {"a\nb": "x", "\ud83d": "y", "c" * 1000: "z"})
    assert r"the row has a\nb, \ud83d, ccc" in text


def test_a_long_value_is_cut_in_what_is_said_of_it() -> None:
    assert len(raw_rows.problem("Text", {"text": ["x" * 1_000_000]})) < 150


def test_columns_that_the_user_names_though_rows_may_lack_them_are_told() -> None:
    named = {"input": "context", "output": "response", "system": "system", "provenance": "origin"}
    rows = ROW_FORMATS["Instruction"].model_validate({"columns": named})
    assert optional_columns(rows) == {"input": "context", "provenance": "origin"}
    assert all(optional_columns(rows_of()) == {} for rows_of in ROW_FORMATS.values())
