"""Format Instruction: what Alpaca, Dolly and files of prompts and completions become."""

from __future__ import annotations

from typing import Any

import pytest

import raw_rows
from finetune_trainer.data.example import Message

ALPACA = {"instruction": "Add.", "input": "2, 2", "output": "4"}


def said(raw: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in raw_rows.read("Instruction", raw, **fields).messages]


@pytest.mark.parametrize(
    ("raw", "columns"),
    [
        (ALPACA, {}),
        ({**ALPACA, "text": "Below is an instruction …", "system": None}, {}),
        (
            {"instruction": "Add.", "context": "2, 2", "response": "4", "category": "closed_qa"},  # Dolly
            {"input": "context", "output": "response"},
        ),
        ({"q": "Add.", "x": "2, 2", "a": "4"}, {"instruction": "q", "input": "x", "output": "a"}),
    ],
)
def test_an_instruction_and_its_input_become_a_prompt(raw: dict[str, Any], columns: dict[str, str]) -> None:
    assert said(raw, columns=columns) == [("user", "Add.\n\n2, 2"), ("assistant", "4")]


@pytest.mark.parametrize("without", [{}, {"input": None}, {"input": ""}, {"input": " \n"}])
def test_an_input_may_be_missing_or_empty(without: dict[str, Any]) -> None:
    assert said({"instruction": "Say 4.", "output": "4", **without}) == [("user", "Say 4."), ("assistant", "4")]


def test_prompts_and_completions_are_instructions_by_their_columns() -> None:
    raw = {"prompt": "Say 4.", "completion": " 4"}
    columns = {"instruction": "prompt", "output": "completion"}
    assert said(raw, columns=columns) == [("user", "Say 4."), ("assistant", " 4")]


def test_a_system_column_becomes_the_first_turn() -> None:
    assert said({**ALPACA, "system": "Be brief."})[0] == ("system", "Be brief.")


def test_templates_put_the_input_anywhere_and_nothing_where_there_is_none() -> None:
    templates = {
        "prompt_template": "{input}### Task\n{instruction}",
        "input_template": "### Given\n{input}\n",
        "response_template": "<<{output}>>",
    }
    assert said(ALPACA, **templates) == [("user", "### Given\n2, 2\n### Task\nAdd."), ("assistant", "<<4>>")]
    assert said({**ALPACA, "input": ""}, **templates)[0] == ("user", "### Task\nAdd.")


def test_braces_of_a_row_are_text_and_code_keeps_its_indentation() -> None:
    raw = {"instruction": "Mend {x}: {input}", "input": "{instruction}", "output": "\n    return {output}\n"}
    assert said(raw) == [("user", "Mend {x}: {input}\n\n{instruction}"), ("assistant", "    return {output}")]


def test_the_question_has_the_input_and_the_digest_no_templates() -> None:
    one = raw_rows.read("Instruction", ALPACA)
    assert one.question == "Add.\n2, 2"
    assert one.sha256 == raw_rows.read("Instruction", ALPACA, prompt_template="Do: {instruction}").sha256
    for changed in ({"input": "3, 1"}, {"output": "four"}, {"system": "Be brief."}, {"instruction": "Sum."}):
        assert one.sha256 != raw_rows.read("Instruction", {**ALPACA, **changed}).sha256


def test_only_the_response_is_the_assistants() -> None:
    example = raw_rows.read("Instruction", ALPACA)
    assert (example.prompt, example.response) == ((Message("user", "Add.\n\n2, 2"),), "4")


def test_earlier_turns_beside_an_instruction_come_before_it() -> None:
    raw = {**ALPACA, "system": "Be brief.", "history": [["1+1?", "2"], ["Sure?", "Yes."]]}
    example = raw_rows.read("Instruction", raw)
    assert [message.content for message in example.messages] == [
        *("Be brief.", "1+1?", "2", "Sure?", "Yes."),
        *("Add.\n\n2, 2", "4"),
    ]
    assert [message.role for message in example.messages] == ["system", *["user", "assistant"] * 3]
    assert example.question == "1+1?\nSure?\nAdd.\n2, 2"
    assert example.sha256 != raw_rows.read("Instruction", {**raw, "history": [["1+1?", "2"]]}).sha256


@pytest.mark.parametrize("history", [None, [], "ancient", {"a": 1}])
def test_a_column_named_history_without_turns_is_any_column(history: object) -> None:
    assert len(raw_rows.read("Instruction", {**ALPACA, "history": history}).messages) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"history": [["1+1?", "2"], ["Sure?"]]},
            "column 'history': turn 2 must be a list of an instruction and its response, not ['Sure?']",
        ),
        ({"history": [["1+1?", None]]}, "column 'history': turn 1 must be a text that is not empty, not None"),
        ({"instruction": ""}, "column 'instruction': must be a text that is not empty, not ''"),
        ({"instruction": None}, "column 'instruction': must be a text that is not empty, not None"),
        ({"output": "  "}, "column 'output': must be a text that is not empty, not '  '"),
        ({"output": 4}, "column 'output': must be a text that is not empty, not 4"),
        ({"output": float("nan")}, "column 'output': must be a text that is not empty, not nan"),
        ({"input": 4}, "column 'input': must be a text that is not empty, not 4"),
        ({"input": ["2"]}, "column 'input': must be a text that is not empty, not ['2']"),
        ({"system": 4}, "column 'system': must be a text that is not empty, not 4"),
        (
            {"output": "a\r\nb\x00"},
            "column 'output': character 5 is U+0000, a control character: take it out of the text",
        ),
        (
            {"input": "\udc00"},
            "column 'input': character 1 is U+DC00, half of a surrogate pair: take it out of the text",
        ),
    ],
)
def test_a_bad_cell_is_refused_by_its_column(changes: dict[str, Any], words: str) -> None:
    assert raw_rows.problem("Instruction", {**ALPACA, **changes}) == words


@pytest.mark.parametrize("column", ["instruction", "output"])
def test_a_column_that_must_be_there_is_named_with_those_that_are(column: str) -> None:
    raw = {name: text for name, text in ALPACA.items() if name != column}
    text = raw_rows.problem("Instruction", raw)
    assert text == (
        f"column {column!r}: missing: the row has {', '.join(raw)}; name the right one in dataset.columns, or add it"
    )
