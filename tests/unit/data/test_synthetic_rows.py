"""The synthetic rows are what their README promises."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable
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
def test_the_options_are_the_answers_to_all_facts_of_the_topic(split: str) -> None:
    for row in read_rows(split):
        topic, _, answer = fact_of(row)
        assert row["answer"] == answer
        assert set(row["options"].values()) == {text for other, _, text in FACTS if other == topic}


@pytest.mark.parametrize("split", SPLITS)
def test_each_text_is_right_in_a_quarter_of_its_rows_and_equally_often_under_each_letter(split: str) -> None:
    rows = read_rows(split)
    stands = Counter(text for row in rows for text in row["options"].values())
    right = Counter(row["answer"] for row in rows)
    assert {text: count / 4 for text, count in stands.items()} == right
    assert len(set(Counter((row["answer"], row["answer_idx"]) for row in rows).values())) == 1


# What a row shows beside the term that it asks about, by name; a feature of an option in a row.
GIVEN_AWAY: dict[str, Callable[[Row, str], object]] = {
    "text": lambda row, letter: row["options"][letter],
    "letter": lambda row, letter: letter,
    "text and letter": lambda row, letter: (row["options"][letter], letter),
    "length": lambda row, letter: len(row["options"][letter]),
    "rank of length": lambda row, letter: sorted(row["options"], key=lambda one: len(row["options"][one])).index(
        letter
    ),
    "neighbour": lambda row, letter: (row["options"][letter], row["options"].get(chr(ord(letter) + 1))),
}


def accuracy_of(feature: Callable[[Row, str], object]) -> float:
    """Test accuracy of who learns from the training rows how often an option of a feature is right; ties are guessed.

    That is naive Bayes with one feature an option.
    """
    stands: Counter[object] = Counter()
    right: Counter[object] = Counter()
    for row in read_rows("train"):
        for letter in row["options"]:
            stands[feature(row, letter)] += 1
            right[feature(row, letter)] += letter == row["answer_idx"]
    total = 0.0
    for row in read_rows("test"):
        scores = {
            letter: (right[feature(row, letter)] + 1) / (stands[feature(row, letter)] + 4) for letter in row["options"]
        }
        best = [letter for letter, score in scores.items() if score == max(scores.values())]
        total += (row["answer_idx"] in best) / len(best)
    return total / len(read_rows("test"))


@pytest.mark.parametrize("feature", GIVEN_AWAY.values(), ids=GIVEN_AWAY)
def test_who_looks_at_the_options_alone_is_right_by_chance(feature: Callable[[Row, str], object]) -> None:
    """48 rows: 0.25 give or take two standard errors."""
    assert accuracy_of(feature) == pytest.approx(0.25, abs=0.125)


def test_the_option_that_was_right_most_often_is_right_exactly_by_chance() -> None:
    assert accuracy_of(GIVEN_AWAY["text"]) == 0.25
    assert accuracy_of(GIVEN_AWAY["letter"]) == 0.25


def test_who_learns_which_words_of_the_question_go_with_which_text_is_always_right() -> None:
    """So what is asked follows from what is taught, though no test question stands in training."""

    def words(row: Row) -> set[str]:
        return set(re.findall(r"\w+", row["question"].casefold()))

    together = Counter((word, row["answer"]) for row in read_rows("train") for word in words(row))
    alone = Counter(word for row in read_rows("train") for word in words(row))
    for row in read_rows("test"):
        known = [word for word in words(row) if word in alone]
        scores = {
            text: math.prod((together[word, text] + 0.1) / (alone[word] + 0.4) for word in known)
            for text in row["options"].values()
        }
        assert max(scores, key=lambda text: scores[text]) == row["answer"]


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
