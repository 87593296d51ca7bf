"""Conversations come back the same from files of every kind."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import raw_rows
from finetune_trainer.data.example import Message
from finetune_trainer.sources.files import local_file, read_file

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "look_up", "arguments": {"word": "otter"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2+2?\nAnd an otter?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER], "weight": 0},
            {"role": "tool", "content": "4", "tool_call_id": "c1"},
            {"role": "tool", "content": "", "tool_call_id": "c2"},
            {"role": "assistant", "content": 'It is "4", naïvely.', "reasoning_content": "Two, and two."},
        ],
        "tools": [TOOL],
    },
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\r\n" for row in ROWS), encoding="utf-8-sig")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, ensure_ascii=False))


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["messages", "tools"])
        writer.writeheader()
        for row in ROWS:
            writer.writerow({column: json.dumps(cell) for column, cell in row.items()})


def write_parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("extension", WRITERS)
def test_a_conversation_is_the_same_from_every_kind_of_file(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"train{extension}"
    WRITERS[extension](path)
    raw = [row for _, row in read_file(local_file(path, path.name, extension))]
    called, plain = [raw_rows.read("Chat", row) for row in raw]
    assert called.tools == (TOOL,)
    assert called.messages == (
        Message("system", "Be brief."),
        Message("user", "2+2?\nAnd an otter?"),
        Message("assistant", "", train=False, extra={"tool_calls": [CALL, OTHER]}),
        Message("tool", "4", extra={"tool_call_id": "c1"}),
        Message("tool", "", extra={"tool_call_id": "c2"}),
        Message("assistant", 'It is "4", naïvely.', extra={"reasoning_content": "Two, and two."}),
    )
    assert plain.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert (plain.tools, plain.sha256) == ((), raw_rows.read("Chat", ROWS[1]).sha256)


def test_parquet_fills_arguments_of_different_tools_with_null(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path)
    (_, first), _ = read_file(local_file(path, path.name, ".parquet"))
    assert isinstance(first, dict)
    assert "None" in repr(first["messages"][2]["tool_calls"][0])  # else the test above shows nothing
