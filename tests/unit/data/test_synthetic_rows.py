"""The synthetic rows are what their README promises."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "data"
FOLDER = DATA / "medqa_synthetic"
SPLITS = ("train", "test")

Row = dict[str, Any]


def read_rows(split: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def read_table(name: str, *columns: str) -> set[tuple[str, ...]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {tuple(row[column] for column in columns) for row in csv.DictReader(file)}


FACTS = read_table("facts", "topic", "term", "answer")
WRONG = read_table("wrong_options", "topic", "text")


def fact_of(row: Row) -> tuple[str, ...]:
    """The one fact that a row asks: topic, term and answer."""
    asked = [fact for fact in FACTS if re.search(rf"\b{fact[1]}\b", row["question"], re.IGNORECASE)]
    assert len(asked) == 1, row
    return asked[0]


def wording_of(row: Row) -> str:
    """The last sentence without what varies: where the held-out wordings differ from the taught ones."""
    text = re.sub(rf"\b{fact_of(row)[1]}\b", "TERM", row["question"], flags=re.IGNORECASE)
    return re.split(r"(?<=[.?]) ", text)[-1]


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


def test_every_fact_is_taught_in_28_rows_and_asked_in_4() -> None:
    for split, times in (("train", 28), ("test", 4)):
        assert Counter(map(fact_of, read_rows(split))) == dict.fromkeys(FACTS, times)


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_is_the_one_that_the_facts_teach_and_the_other_options_are_never_right(split: str) -> None:
    for row in read_rows(split):
        topic, _, answer = fact_of(row)
        assert row["answer"] == answer
        assert {(topic, text) for text in row["options"].values() if text != answer} < WRONG
    assert not {answer for _, _, answer in FACTS} & {text for _, text in WRONG}


def test_no_test_row_repeats_a_question_or_a_wording_of_training() -> None:
    train, test = read_rows("train"), read_rows("test")
    assert not {row["question"] for row in train} & {row["question"] for row in test}
    assert not set(map(wording_of, train)) & set(map(wording_of, test))


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_stands_twice(split: str) -> None:
    assert max(Counter(row["question"] for row in read_rows(split)).values()) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_short_enough_for_a_cpu(split: str) -> None:
    assert max(len(row["question"].split()) for row in read_rows(split)) <= 30
