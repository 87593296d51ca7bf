"""The synthetic conversations are what their README promises."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data"
FOLDER = DATA / "chat_synthetic"
SPLITS = ("train", "test")

Row = dict[str, Any]


def read_rows(split: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def said(row: Row, role: str) -> str:
    return " ".join(" ".join(turn["content"] for turn in row["messages"] if turn["role"] == role).casefold().split())


def sequences(row: Row) -> set[tuple[str, ...]]:
    """All sequences of five words of what the user says."""
    words = said(row, "user").split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def likeness(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def test_copies_are_plain_and_everything_else_is_far_from_a_copy() -> None:
    rows = read_rows("train")
    all_of = [sequences(row) for row in rows]
    pairs = itertools.combinations(range(len(rows)), 2)
    copies = {pair: share for pair in pairs if (share := likeness(all_of[pair[0]], all_of[pair[1]])) >= 0.7}
    assert Counter(share == 1 for share in copies.values()) == {True: 6, False: 5}
    assert min(copies.values()) > 0.9
    assert all(said(rows[one], "assistant") == said(rows[other], "assistant") for one, other in copies)


def test_no_held_out_conversation_is_asked_in_training() -> None:
    train, test = (list(map(sequences, read_rows(split))) for split in SPLITS)
    assert max(likeness(one, other) for one in test for other in train) < 0.7


def test_one_conversation_has_no_answer() -> None:
    assert [row["messages"][-1]["role"] for row in read_rows("train")].count("user") == 1
    assert not [row for row in read_rows("test") if row["messages"][-1]["role"] != "assistant"]


def test_there_are_system_prompts_look_ups_several_turns_and_turns_that_are_not_learned() -> None:
    rows = read_rows("train")
    roles = [[turn["role"] for turn in row["messages"]] for row in rows]
    for least, count in (
        (200, sum(one[0] == "system" for one in roles)),
        (200, sum("tool" in one for one in roles)),
        (200, sum(one.count("user") > 1 for one in roles)),
        (20, sum(turn.get("train") is False for row in rows for turn in row["messages"])),
    ):
        assert least < count < len(rows)
    assert set(Counter(row.get("provenance") for row in rows)) == {"Human", "Synthetic", None}
