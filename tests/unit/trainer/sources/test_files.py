"""Rows of one file, and what is said of a file that can't be read."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.sources.files import read_file
from finetune_trainer.stage.failure import StageError
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


def test_a_json_file_of_one_line_holds_one_row(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS[0]) + "\n")
    assert rows_of(tmp_path / "rows.json") == [(1, ROWS[0])]


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,,\none,two,,\n")
    assert rows_of(tmp_path / "rows.csv")[0][1]["answer"] == "two"


def test_a_file_in_another_encoding_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("question\ncafé\n".encode("latin-1"))
    with pytest.raises(StageError) as caught:
        rows_of(tmp_path / "rows.csv")
    assert (caught.value.reason, caught.value.advice) == (Reason.DATASET_INVALID, "save the file as UTF-8")


@pytest.mark.parametrize(("number", "passes"), [(errno.EIO, True), (errno.ESTALE, True), (errno.EACCES, False)])
def test_a_disk_that_fails_just_now_is_not_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, "fails")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError if passes else StageError):
        rows_of(tmp_path / "rows.jsonl")


def test_a_cell_may_be_larger_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"question\n{'x' * 200_000}\n")
    ((_, row),) = rows_of(tmp_path / "rows.csv")
    assert len(row["question"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", b"5", "must hold a list of rows"),
        ("rows.json", b'[{"a": 1, "a": 2}]', "rows.json is no JSON: 'a' stands twice in one object"),
        ("rows.jsonl", b'{"o": {"A": 1, "A": 2}}', "rows.jsonl row 1 is no JSON: 'A' stands twice in one object"),
        (
            "rows.csv",
            b"question,answer,answer\none,two,three\n",
            "rows.csv: column 'answer' stands twice in the header",
        ),
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
