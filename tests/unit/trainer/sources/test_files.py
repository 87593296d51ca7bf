"""Rows of one file, and what is said of a file that can't be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.sources.files import read_file
from trainer_inputs import ROWS, refusal

BOM = "\ufeff"


def rows_of(path: Path) -> list[tuple[int, Any]]:
    return list(read_file(path, path.name, path.suffix))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", json.dumps(ROWS[0]) + "\n"),
        ("rows.json", json.dumps([ROWS[0]])),
        ("rows.json", json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[0]) + "\n"),
        ("rows.csv", 'question,options,answer,answer_idx\nWhich 0?,"[""one"", ""two""]",two,B\n'),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    plain = rows_of(tmp_path / name)
    (tmp_path / name).write_text(BOM + text, encoding="utf-8")
    assert rows_of(tmp_path / name) == plain
    assert plain[0][1]["question"] == "Which 0?"


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n\n{not json\n")
    assert "rows.jsonl row 3 is no JSON" in refusal(lambda: rows_of(path), Reason.DATASET_INVALID)
    path.write_text(json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n")
    assert [number for number, _ in rows_of(path)] == [1, 3]


def test_csv_cells_are_text_and_missing_ones_are_absent(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,extra\nNone,007,NA\nonly\nempty,,\n")
    assert [row for _, row in rows_of(tmp_path / "rows.csv")] == [
        {"question": "None", "answer": "007", "extra": "NA"},
        {"question": "only"},
        {"question": "empty", "answer": "", "extra": ""},
    ]


def test_a_csv_row_with_more_cells_than_columns_is_named_unless_they_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\none,two,,\n")
    assert rows_of(path) == [(1, {"question": "one", "answer": "two"})]
    path.write_text("question,answer\none,two\nthree, or four,five\n")
    text = refusal(lambda: rows_of(path), Reason.DATASET_INVALID)
    assert text.startswith(
        "rows.csv row 2 has more cells than the header has columns: put text that holds a comma in q"
    )


def test_a_cell_may_be_larger_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"question\n{'x' * 200_000}\n")
    ((_, row),) = rows_of(tmp_path / "rows.csv")
    assert len(row["question"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", b"{}", "must hold a list of rows"),
        ("rows.json", b"[1, ", "rows.json is no JSON"),
        ("rows.json", b"[" * 200_000, "rows.json is no JSON"),
        ("rows.jsonl", b"[" * 200_000, "rows.jsonl row 1 is no JSON"),
        ("rows.parquet", b"PAR1 not really", "can't read rows.parquet"),
        ("rows.jsonl", b"\xff\xfe", "can't read rows.jsonl"),
        ("rows.csv", b'question\n"never closed', "can't read rows.csv"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    text = refusal(lambda: rows_of(tmp_path / name), Reason.DATASET_INVALID)
    assert words in text
    assert "\n" not in text
