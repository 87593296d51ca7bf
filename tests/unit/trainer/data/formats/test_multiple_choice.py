"""Rows of a dataset: what is accepted, and what an error says."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.inputs import ColumnsSpec, DatasetSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, parse_row, prompt_of, response_of
from finetune_trainer.stage.failure import StageError

COLUMNS = ColumnsSpec()
TEMPLATES = DatasetSpec(source="pvc://data/rows.jsonl")


def raw_row(**changes: Any) -> dict[str, Any]:
    row = {"question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "two", "answer_idx": "B"}
    return {**row, **changes}


def problem(raw: object) -> str:
    with pytest.raises(StageError) as caught:
        parse_row(raw, COLUMNS, "train.jsonl row 7")
    assert caught.value.reason is Reason.DATASET_INVALID
    return str(caught.value)


def test_options_come_as_a_map_a_list_or_json_in_a_csv_cell() -> None:
    expected = ChoiceRow("Which?", {"A": "one", "B": "two"}, "B")
    for options in ({"A": "one", "B": "two"}, ["one", "two"], '{"A": "one", "B": "two"}', '["one", "two"]'):
        assert parse_row(raw_row(options=options), COLUMNS, "row 1") == expected


def test_a_letter_without_text_is_no_option_because_parquet_fills_gaps_with_null() -> None:
    row = parse_row(raw_row(options={"A": "one", "B": "two", "C": None}), COLUMNS, "row 1")
    assert list(row.options) == ["A", "B"]


def test_columns_can_have_other_names() -> None:
    columns = ColumnsSpec(question="q", options="choices", answer="gold", answer_key="key")
    raw = {"q": "Which?", "choices": ["one", "two"], "gold": "one", "key": "A"}
    assert parse_row(raw, columns, "row 1").answer == "one"


@pytest.mark.parametrize("column", ["question", "options", "answer", "answer_idx"])
def test_a_missing_column_is_named_with_its_row_and_the_columns_that_are_there(column: str) -> None:
    raw = raw_row()
    del raw[column]
    text = problem(raw)
    assert f"train.jsonl row 7: column {column!r}: missing" in text
    assert all(name in text for name in raw)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "  "}, "'question': must be a text that is not empty"),
        ({"question": 3}, "'question': must be a text that is not empty, not 3"),
        ({"options": ["one"]}, "'options': needs at least 2 options, has 1"),
        ({"options": {"A": "one", "B": ""}}, "'options': option B must be a text that is not empty"),
        ({"options": 5}, "'options': must be a map from letter to text"),
        ({"options": "one, two"}, "'options': 'one, two' is no JSON map or list"),
        ({"question": "Wh\ud83d?"}, r"'question': '\ud83d' at character 3 is no Unicode character"),
        ({"options": {"A": "one", "B": "\ud83d"}}, r"'options': '\ud83d' at character 1 is no Unicode character"),
        ({"options": {"A": "one", "\ud83d": "two"}}, r"'options': '\ud83d' at character 1 is no Unicode character"),
        ({"answer_idx": "C"}, "'answer_idx': 'C' is none of the letters A, B"),
        ({"answer": "one"}, "'answer': 'one' is not the text of option B, 'two'"),
    ],
)
def test_a_bad_cell_is_named_with_its_row_and_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    assert f"train.jsonl row 7: column {words}" in problem(raw_row(**changes))


def test_a_row_that_is_no_object_is_refused() -> None:
    assert problem([1, 2]) == "train.jsonl row 7: must be an object with columns, not [1, 2]"


def test_a_long_cell_is_shortened_in_the_message() -> None:
    assert len(problem(raw_row(options="x" * 10_000))) < 300


def test_the_prompt_lists_the_options_one_per_line() -> None:
    row = parse_row(raw_row(), COLUMNS, "row 1")
    text = "Which?\n\nOptions:\nA: one\nB: two\n\nPlease choose the correct answer."
    assert prompt_of(row, TEMPLATES.prompt_template) == text


def test_the_response_fills_answer_and_letter_of_any_option() -> None:
    row = parse_row(raw_row(), COLUMNS, "row 1")
    assert response_of(row, TEMPLATES.response_template) == "The correct answer is two."
    assert response_of(row, "{letter}: {answer}", "A") == "A: one"
