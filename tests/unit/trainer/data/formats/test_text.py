"""Format Text: documents as they are."""

from __future__ import annotations

from typing import Any

import pytest

import raw_rows


def test_a_document_is_one_text_that_ends() -> None:
    example = raw_rows.read("Text", {"text": "Once upon a time.", "source": "x"})
    assert (example.text, example.response, example.question) == ("Once upon a time.",) * 3
    assert (example.messages, example.choices, example.ends) == ((), None, True)


def test_a_row_may_be_a_piece_of_a_longer_text() -> None:
    assert not raw_rows.read("Text", {"text": "Once"}, end_of_text="Omit").ends


def test_white_space_around_a_document_stays_and_lines_end_alike() -> None:
    raw = {"text": "\ufeff\n    def f():\r\n\treturn 1\r\fend\u00a0 \n"}
    assert raw_rows.read("Text", raw).text == "\n    def f():\n\treturn 1\n\nend\u00a0 \n"


def test_another_column_can_hold_it() -> None:
    assert raw_rows.read("Text", {"content": "x", "text": 5}, columns={"text": "content"}).text == "x"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"text": ""}, "column 'text': must be a text that is not empty, not ''"),
        ({"text": "\ufeff \n"}, r"column 'text': must be a text that is not empty, not '\ufeff \n'"),
        ({"text": None}, "column 'text': must be a text that is not empty, not None"),
        ({"text": float("nan")}, "column 'text': must be a text that is not empty, not nan"),
        ({"text": ["x"]}, "column 'text': must be a text that is not empty, not ['x']"),
        ({"text": "ab\x1bc"}, "column 'text': character 3 is U+001B, a control character: take it out of the text"),
        ({"text": "\x85"}, "column 'text': character 1 is U+0085, a control character: take it out of the text"),
        (
            {"text": "\ud800x"},
            "column 'text': character 1 is U+D800, half of a surrogate pair: take it out of the text",
        ),
        ({"Text": "x"}, "column 'text': missing: the row has Text; name the right one in dataset.columns, or add it"),
    ],
)
def test_what_is_no_document_is_refused(raw: dict[str, Any], words: str) -> None:
    assert raw_rows.problem("Text", raw) == words
