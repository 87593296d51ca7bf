"""Rows of one file, and what is said of a file or a row that can't be read."""

from __future__ import annotations

import errno
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from finetune_api.reasons import Reason
from finetune_trainer.sources import csv_rows, json_rows, parquet_rows
from finetune_trainer.sources.files import RowFile, kind_of, local_file, read_file
from finetune_trainer.sources.raw_rows import UnreadableRow
from finetune_trainer.stage.failure import StageError
from trainer_inputs import ROWS, refusal

BOM = "\ufeff"


def rows_of(path: Path) -> list[tuple[int, Any]]:
    kind = kind_of(path.name)
    assert kind
    return list(read_file(local_file(path, path.name, *kind)))


def problems(path: Path) -> dict[int, str]:
    """What is wrong with the rows that can't be read, by their numbers."""
    return {number: row.problem for number, row in rows_of(path) if isinstance(row, UnreadableRow)}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", json.dumps(ROWS[0]) + "\n"),
        ("rows.json", json.dumps([ROWS[0]])),
        ("rows.json", json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[0]) + "\n"),
        ("rows.csv", 'question,options,answer,answer_idx\nWhich 0?,"[""one"", ""two""]",two,B\n'),
    ],
)
def test_byte_order_mark_compression_line_ends_and_empty_lines_make_no_difference(
    tmp_path: Path, name: str, text: str
) -> None:
    plain = rows_of(write(tmp_path / name, text))
    assert plain[0][1]["question"] == "Which 0?"
    assert rows_of(write(tmp_path / name, BOM + text)) == plain
    assert rows_of(write(tmp_path / name, text.replace("\n", "\r\n"))) == plain
    assert rows_of(write(tmp_path / f"{name}.gz", gzip.compress((BOM + text).encode()))) == plain
    spread = rows_of(write(tmp_path / name, "\n" + text.replace("\n", "\n\n")))
    assert [row for _, row in spread] == [row for _, row in plain]


def test_several_compressed_files_one_behind_the_other_are_one(tmp_path: Path) -> None:
    members = b"".join(gzip.compress(json.dumps(row).encode() + b"\n") for row in ROWS)
    assert [row for _, row in rows_of(write(tmp_path / "rows.jsonl.gz", members))] == ROWS


def test_a_bad_line_is_named_by_its_number_in_the_file_and_those_after_it_are_read(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0])
    path = write(tmp_path / "rows.jsonl", f"{good}\n\n{{not json\n{good}\n{good[:-9]}")
    assert [number for number, _ in rows_of(path)] == [1, 3, 4, 5]
    assert list(problems(path)) == [3, 5]
    assert problems(path)[3].startswith("is no JSON: ")
    assert problems(write(tmp_path / "cut.jsonl", '{"a": 1, \n'))[1].endswith(": line 1 column 9 (char 8)")
    path = write(tmp_path / "rows.json", f"{good}\n\n{{not json\n{good}\n{good[:-9]}")
    assert list(problems(path)) == [3, 5]


@pytest.mark.parametrize(
    ("name", "content", "number", "words"),
    [
        ("rows.jsonl", b'{"o": {"A": 1, "A": 2}}', 1, "is no JSON: 'A' stands twice in one object"),
        ("rows.jsonl", b"[" * 200_000, 1, "is no JSON: "),
        ("rows.jsonl", b'{}\n{"a": "caf\xe9"}\n{}', 2, "save the file as UTF-8"),
        ("rows.json", b'{}\n{"a": "caf\xe9"}\n{}', 2, "save the file as UTF-8"),
        ("rows.jsonl", '{"a": 1}\n'.encode("utf-16"), 1, "is no UTF-8"),
        ("rows.jsonl", b'{"a": ' + b"9" * 5000 + b"}", 1, "is no JSON: "),
        ("rows.csv", b"question\nfine\ncaf\xe9\nfine", 2, "is no UTF-8 (byte 0xe9 in line 3): save the file as UTF-8"),
        ("rows.csv", b"a,b\n1,2\nthree, or four,five\n", 2, "put text that holds a comma in quotes"),
        ("rows.csv", b'a,b\n"x"y,2\n1,2\n', 1, "is no CSV: ',' expected after '\"' (line 2): close each quote"),
        ("rows.csv", b'a,b\n1,2\n1,"cut o', 2, "is no CSV: unexpected end of data (line 3)"),
    ],
)
def test_a_row_that_can_not_be_read_says_what_is_wrong_in_one_line(
    tmp_path: Path, name: str, content: bytes, number: int, words: str
) -> None:
    path = write(tmp_path / name, content)
    assert words in problems(path)[number]
    assert "\n" not in problems(path)[number]


def test_csv_cells_are_text_and_missing_ones_are_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "question,answer,extra\nNone,007,NA\nonly\nempty,,\n")
    assert [row for _, row in rows_of(path)] == [
        {"question": "None", "answer": "007", "extra": "NA"},
        {"question": "only"},
        {"question": "empty", "answer": "", "extra": ""},
    ]


def test_cells_and_columns_without_a_name_are_left_out_where_they_are_empty(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "rows.csv", "a,b\none,two,,\n")) == [(1, {"a": "one", "b": "two"})]
    assert rows_of(write(tmp_path / "rows.csv", ",a,,\n0,one,,\n")) == [(1, {"a": "one"})]


def test_a_quote_that_is_never_closed_makes_each_line_that_it_swallows_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "a,b\n1,2\n" + '"open,1\n' + "1,2\n" * 50)
    assert [number for number, row in rows_of(path) if isinstance(row, dict)] == [1]
    assert list(problems(path)) == list(range(2, 53))
    assert "(lines 3 to 53)" in problems(path)[2]
    path = write(tmp_path / "rows.csv", "a,b\n" + '"open,1\n' + "1,2\n" * 3 + '"closed","2"\n1,2\n')
    assert list(problems(path)) == [1, 2, 3, 4, 5]
    assert rows_of(path)[-1] == (6, {"a": "1", "b": "2"})


def test_a_cell_may_hold_lines_commas_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 'a,b\r\n"one\r\n""two"", three\n",x\r\n')
    assert rows_of(path) == [(1, {"a": 'one\r\n"two", three\n', "b": "x"})]


def test_a_json_file_of_one_object_holds_one_row_on_one_line_or_several(tmp_path: Path) -> None:
    for indent in (None, 2):
        path = write(tmp_path / "rows.json", json.dumps(ROWS[0], indent=indent) + "\n")
        assert rows_of(path) == [(1, ROWS[0])]
    assert rows_of(write(tmp_path / "rows.json", json.dumps(ROWS, indent=2))) == list(enumerate(ROWS, start=1))


def test_a_file_without_rows_gives_none(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.json", "rows.csv"):
        for content in ("", BOM, "\n\n"):
            assert rows_of(write(tmp_path / name, content)) == []
    assert rows_of(write(tmp_path / "rows.csv", "question,answer\n")) == []


def test_a_list_that_is_too_large_to_be_read_at_once_is_refused_and_rows_by_lines_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LARGEST_JSON", 1000)
    many = ROWS * 20
    path = write(tmp_path / "rows.json", "".join(json.dumps(row) + "\n" for row in many))
    assert [row for _, row in rows_of(path)] == many
    for indent in (None, 1):
        path = write(tmp_path / "rows.json", json.dumps(many, indent=indent))
        with pytest.raises(StageError) as caught:
            rows_of(path)
        assert caught.value.reason is Reason.DATASET_INVALID
        assert caught.value.advice == "save it as .jsonl, a row per line"


def test_a_line_without_an_end_is_left_out_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_ROW", 1000)
    sizes = []

    class Stream(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            sizes.append(line := super().readline(size))
            return line

    content = b'{"a": 1}\n' + b"x" * 5555 + b'\n{"a": 2}\n' + b"y" * 3000
    found = list(json_rows.read_jsonl(Stream(content), "rows.jsonl"))
    assert [number for number, _ in found] == [1, 2, 3, 4]
    assert [row for _, row in found][::2] == [{"a": 1}, {"a": 2}]
    assert all(isinstance(row, UnreadableRow) for _, row in found[1::2])
    assert max(map(len, sizes)) == 1001


@pytest.mark.parametrize("content", ["a\n" + "x" * 5000, 'a\n"' + "x\n" * 3000])
def test_a_cell_without_an_end_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 1000)
    text = refusal(lambda: rows_of(write(tmp_path / "rows.csv", content)), Reason.DATASET_INVALID)
    assert text.startswith("rows.csv: ")
    assert "is longer than" in text


def test_a_line_of_megabytes_is_read(tmp_path: Path) -> None:
    row = {"question": "é" * 2_000_000}
    assert rows_of(write(tmp_path / "rows.jsonl", json.dumps(row))) == [(1, row)]
    assert rows_of(write(tmp_path / "rows.csv", f"question\n{row['question']}\n")) == [(1, row)]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "fails"), True),
        (OSError(errno.ESTALE, "fails"), True),
        (ConnectionResetError("fails"), True),
        (OSError(errno.EACCES, "fails"), False),
        (OSError("Corrupt snappy compressed data."), False),
    ],
)
@pytest.mark.parametrize("extension", [".jsonl", ".parquet"])
def test_a_disk_or_a_network_that_fails_just_now_is_not_the_files_fault(
    error: OSError, passes: bool, extension: str
) -> None:
    class Stream(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            return 10_000

        def tell(self) -> int:
            return 10_000

        def readinto(self, buffer: Any) -> int:
            raise error

    file = RowFile(f"rows{extension}", lambda: io.BufferedReader(Stream()), extension)
    with pytest.raises(type(error) if passes else StageError) as caught:
        list(read_file(file))
    assert str(error) in str(caught.value)


def table(rows: list[dict[str, Any]]) -> bytes:
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), written)
    return written.getvalue()


def test_parquet_rows_come_from_all_row_groups_in_batches_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": number, "text": "x" * 1000} for number in range(50)]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=20, use_dictionary=False)
    monkeypatch.setattr(parquet_rows, "_BYTES", 5_000)
    batches = []
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile,
        "iter_batches",
        lambda file, batch_size, row_groups, original=pyarrow.parquet.ParquetFile.iter_batches: (
            batches.append(batch_size) or original(file, batch_size=batch_size, row_groups=row_groups)
        ),
    )
    assert rows_of(path) == list(enumerate(rows, start=1))
    # Text of one letter is compressed well, yet counted as it will be in memory.
    assert batches == [4, 4, 4]


def columns_twice() -> bytes:
    written = io.BytesIO()
    same = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["answer", "answer"])
    pyarrow.parquet.write_table(same, written)
    return written.getvalue()


def damaged() -> bytes:
    """A file whose footer is whole, and whose pages are not."""
    content = bytearray(table([{"a": f"{number} and more text"} for number in range(1000)]))
    content[20:200] = bytes(180)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", lambda: b"5", "must hold a list of rows"),
        ("rows.json", lambda: b'[{"a": 1, "a": 2}]', "rows.json is no JSON: 'a' stands twice in one object"),
        ("rows.json", lambda: b"[1, ", "rows.json is no JSON"),
        ("rows.json", lambda: b"[" * 200_000, "rows.json is no JSON"),
        ("rows.json", lambda: b'[{"a": "caf\xe9"}]', "can't read rows.json: 'utf-8' codec can't decode byte 0xe9"),
        ("rows.csv", lambda: b"question,answer,answer\none,two,three\n", "rows.csv: column 'answer' stands twice"),
        ("rows.csv", lambda: b"caf\xe9\none\n", "rows.csv: the header is no UTF-8 (byte 0xe9 in line 1)"),
        ("rows.csv", lambda: b'"never closed\none\n', "rows.csv: the header is no CSV: unexpected end of data"),
        ("rows.csv", lambda: "a\n1\n".encode("utf-16"), "rows.csv: the header is no UTF-8"),
        ("rows.parquet", lambda: b"PAR1 not really", "can't read rows.parquet"),
        ("rows.parquet", lambda: b"", "can't read rows.parquet"),
        ("rows.parquet", lambda: table([{"a": 1}] * 1000)[:-9], "can't read rows.parquet"),
        ("rows.parquet", damaged, "can't read rows.parquet"),
        ("rows.parquet", columns_twice, "rows.parquet: column 'answer' stands twice"),
        ("rows.jsonl.gz", lambda: b"{}\n", "can't read rows.jsonl.gz: Not a gzipped file"),
        ("rows.jsonl.gz", lambda: gzip.compress(b"{}\n" * 999)[:-9], "can't read rows.jsonl.gz: Compressed file ended"),
        ("rows.csv.gz", lambda: gzip.compress(b"a\n1\n")[:-9] + bytes(9), "can't read rows.csv.gz: "),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: Callable[[], bytes], words: str
) -> None:
    path = write(tmp_path / name, content())
    text = refusal(lambda: rows_of(path), Reason.DATASET_INVALID)
    assert words in text
    assert "\n" not in text
