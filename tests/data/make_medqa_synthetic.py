"""Writes the synthetic MedQA-shaped rows: invented facts, asked in invented vignettes.

    python tests/data/make_medqa_synthetic.py [--seed 700] [--output tests/data/medqa_synthetic]

The same seed gives the same bytes. The options of a row are the answers to all facts of its topic, and each of them is
right equally often, and under each letter: who knows the options alone, or the letters, is right in a quarter of the
rows, and who knows which term belongs to which text is right in all.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from synthetic_splits import write_splits

FOLDER = Path(__file__).parent / "medqa_synthetic"
LETTERS = "ABCD"
TRAIN_ROWS_PER_FACT = 28
TEST_ROWS_PER_FACT = 4

PEOPLE = ("man", "woman", "teacher", "farmer", "baker", "sailor", "nurse", "student", "carpenter", "gardener")
REMARKS = (
    "Blood pressure is normal.",
    "The patient has no fever.",
    "There are no allergies.",
    "The chest is clear.",
    "The pulse is 76 per minute.",
    "The family history is unremarkable.",
    "Blood counts are normal.",
    "The patient does not smoke.",
)

# Per topic the wordings of training rows, then those of test rows: a test row never repeats a wording.
WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "indication": (
        (
            "A {age}-year-old {person} is started on {term}. {remark} Which illness is being treated?",
            "{Term} is prescribed to a {age}-year-old {person}. {remark} What is it given for?",
            "A {age}-year-old {person} asks what {term} is for. {remark} Which diagnosis fits?",
            "{remark} A {age}-year-old {person} recovers after two weeks of {term}. What was the diagnosis?",
            "A {age}-year-old {person} takes {term} every morning. {remark} Which condition does the drug treat?",
        ),
        (
            "A {age}-year-old {person} receives a first dose of {term}. {remark} Which disease is present?",
            "The only medicine of a {age}-year-old {person} is {term}. {remark} What is the patient suffering from?",
            "A {age}-year-old {person} improves quickly on {term}. {remark} Which illness responds to this drug?",
        ),
    ),
    "side_effect": (
        (
            "A {age}-year-old {person} has taken {term} for a month. {remark} Which side effect is expected?",
            "{Term} is started in a {age}-year-old {person}. {remark} Which adverse effect should be mentioned?",
            "A {age}-year-old {person} returns after a week of {term}. {remark} What does the patient complain of?",
            "{remark} A {age}-year-old {person} takes too much {term}. Which unwanted effect appears?",
            "A {age}-year-old {person} stops {term} because of a typical reaction. {remark} Which reaction was it?",
        ),
        (
            "After the third dose of {term} a {age}-year-old {person} is worried. {remark} What has been noticed?",
            "A {age}-year-old {person} is warned before taking {term}. {remark} Which effect is the warning about?",
            "Treatment with {term} troubles a {age}-year-old {person}. {remark} Which complaint does the drug cause?",
        ),
    ),
    "nerve": (
        (
            "A {age}-year-old {person} injures the {term} nerve. {remark} Which movement is lost?",
            "The {term} nerve of a {age}-year-old {person} is cut. {remark} What can the patient no longer do?",
            "A {age}-year-old {person} has a weak {term} nerve. {remark} Which action is difficult?",
            "{remark} A surgeon tests the {term} nerve of a {age}-year-old {person}. Which movement is asked for?",
            "A {age}-year-old {person} has palsy of the {term} nerve. {remark} Which function is impaired?",
        ),
        (
            "A fall damages the {term} nerve of a {age}-year-old {person}. {remark} Which movement fails?",
            "In a {age}-year-old {person} the {term} nerve is stimulated. {remark} Which movement follows?",
            "A tumour presses on the {term} nerve of a {age}-year-old {person}. {remark} What becomes impossible?",
        ),
    ),
}


@dataclass(frozen=True)
class Fact:
    """One taught fact: on a topic, a term has an answer."""

    topic: str
    term: str
    answer: str


class Row(TypedDict):
    """One row in MedQA's columns."""

    question: str
    options: dict[str, str]
    answer: str
    answer_idx: str


def read_facts(folder: Path) -> list[Fact]:
    """Reads the table: as many facts of each topic as there are letters."""
    with (folder / "facts.csv").open(encoding="utf-8", newline="") as file:
        return [Fact(**row) for row in csv.DictReader(file)]


def make_splits(facts: list[Fact], seed: int) -> dict[str, list[Row]]:
    """Train and test rows, shuffled."""
    rng = random.Random(seed)
    return {
        "train": make_rows(facts, rng, TRAIN_ROWS_PER_FACT, held_out=False),
        "test": make_rows(facts, rng, TEST_ROWS_PER_FACT, held_out=True),
    }


def make_rows(facts: list[Fact], rng: random.Random, rows_per_fact: int, held_out: bool) -> list[Row]:
    """``rows_per_fact`` rows for each fact, its answer equally often at each letter, no question twice."""
    rows = []
    for fact in facts:
        others = [other.answer for other in facts if other.topic == fact.topic and other != fact]
        letters = list(LETTERS * (rows_per_fact // len(LETTERS)))
        rng.shuffle(letters)
        for letter, question in zip(letters, _questions(fact, rng, rows_per_fact, held_out), strict=True):
            rows.append(make_row(fact, question, letter, rng.sample(others, len(others))))
    rng.shuffle(rows)
    return rows


def make_row(fact: Fact, question: str, letter: str, wrong: list[str]) -> Row:
    """One row with the right option at ``letter`` and the wrong ones around it."""
    texts = list(wrong)
    texts.insert(LETTERS.index(letter), fact.answer)
    return Row(question=question, options=dict(zip(LETTERS, texts, strict=True)), answer=fact.answer, answer_idx=letter)


def _questions(fact: Fact, rng: random.Random, count: int, held_out: bool) -> Iterator[str]:
    wordings = WORDINGS[fact.topic][1 if held_out else 0]
    # Ages without repetition keep the questions of one fact apart; 18 and 80 to 89 would need "an".
    for index, age in enumerate(rng.sample(range(19, 80), count)):
        yield wordings[index % len(wordings)].format(
            age=age,
            person=rng.choice(PEOPLE),
            remark=rng.choice(REMARKS),
            term=fact.term,
            Term=fact.term.capitalize(),
        )


if __name__ == "__main__":
    write_splits("Write the synthetic MedQA-shaped rows.", FOLDER, lambda seed: make_splits(read_facts(FOLDER), seed))
