"""The synthetic rows are what their README promises."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data"
FOLDER = DATA / "medqa_synthetic"
SPLITS = ("train", "test")

Row = dict[str, Any]


def read_rows(split: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def read_facts() -> set[tuple[str, str]]:
    with (FOLDER / "facts.csv").open(encoding="utf-8", newline="") as file:
        return {(row["term"], row["answer"]) for row in csv.DictReader(file)}


def fact_of(row: Row) -> tuple[str, str]:
    """The one fact that a row asks."""
    facts = [
        (term, answer)
        for term, answer in read_facts()
        if re.search(rf"\b{term}\b", row["question"], re.IGNORECASE) and answer == row["answer"]
    ]
    assert len(facts) == 1, row
    return facts[0]


def wording_of(row: Row) -> str:
    """The last sentence without what varies: where the held-out wordings differ from the taught ones."""
    term, _ = fact_of(row)
    text = re.sub(rf"\b{term}\b", "TERM", row["question"], flags=re.IGNORECASE)
    return re.split(r"(?<=[.?]) ", text)[-1]


def generate(folder: Path, *arguments: str) -> dict[str, str]:
    command = [sys.executable, str(DATA / "make_medqa_synthetic.py"), "--output", str(folder), *arguments]
    subprocess.run(command, check=True)
    return {split: (folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in SPLITS}


def test_the_committed_rows_are_what_the_generator_writes(tmp_path: Path) -> None:
    committed = {split: (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8") for split in SPLITS}
    assert generate(tmp_path) == committed


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    assert generate(tmp_path / "one", "--seed", "1") != generate(tmp_path / "two", "--seed", "2")


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_has_the_columns_of_medqa_and_its_answer_among_four_options(split: str) -> None:
    for row in read_rows(split):
        assert list(row) == ["question", "options", "answer", "answer_idx"]
        assert list(row["options"]) == ["A", "B", "C", "D"]
        assert len(set(row["options"].values())) == 4
        assert row["options"][row["answer_idx"]] == row["answer"]


@pytest.mark.parametrize("split", SPLITS)
def test_each_letter_is_right_equally_often(split: str) -> None:
    counts = Counter(row["answer_idx"] for row in read_rows(split))
    assert set(counts.values()) == {len(read_rows(split)) // 4}


def test_every_fact_is_taught_fourteen_times_and_asked_three_times() -> None:
    for split, times in (("train", 14), ("test", 3)):
        counts = Counter(map(fact_of, read_rows(split)))
        assert counts == dict.fromkeys(read_facts(), times)


def test_no_test_row_repeats_a_question_or_a_wording_of_training() -> None:
    train, test = read_rows("train"), read_rows("test")
    assert not {row["question"] for row in train} & {row["question"] for row in test}
    assert not set(map(wording_of, train)) & set(map(wording_of, test))


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_stands_twice(split: str) -> None:
    assert max(Counter(row["question"] for row in read_rows(split)).values()) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_wrong_options_are_right_answers_of_other_facts(split: str) -> None:
    answers = {answer for _, answer in read_facts()}
    assert all(set(row["options"].values()) <= answers for row in read_rows(split))


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_short_enough_for_a_cpu(split: str) -> None:
    assert max(len(row["question"].split()) for row in read_rows(split)) <= 30
