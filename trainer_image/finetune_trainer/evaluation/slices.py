"""Slices: an outcome cut into parts by what its rows hold, so that each part is what scoring it alone would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from finetune_api.slices import SliceSpec
from finetune_trainer.data.example import Example, Label
from finetune_trainer.evaluation.outcome import Outcome, Side
from finetune_trainer.evaluation.questions import Question

# Values of a column that are slices of their own: the most frequent ones.
MOST_VALUES = 16
MISSING, OTHERS = "(missing)", "(others)"


def slices_of(outcome: Outcome, slices: Iterable[SliceSpec], beside: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
    """The outcome of each slice, by name, in the order of the spec; values of a column by their number of rows.

    ``beside`` are the outcomes of the slices that have rows of their own, by name.
    """
    found: dict[str, Outcome] = {}
    for one in slices:
        if one.column is None:
            found[one.name] = beside[one.name]
            continue
        for value, rows in rows_by_value(outcome.examples, one.column).items():
            found[f"{one.name}={value}"] = part_of(outcome, rows)
    return found


def has_own_rows(name: str) -> bool:
    """Whether a slice's rows are none of the held-out ones: no value of a column stands in its name."""
    return "=" not in name


def rows_by_value(examples: Sequence[Example], column: str) -> dict[str, list[int]]:
    """Which rows hold each value of a column, by its name: the most frequent first, then the others, then missing ones.

    Of values that are as frequent, the first to appear comes first. Two values of one name are told apart by a number.
    """
    labels = [example.labels.get(column) for example in examples]
    by_rows = [label for label, _ in Counter(label for label in labels if label).most_common()]
    named = _names(by_rows[:MOST_VALUES])
    found: dict[str, list[int]] = {name: [] for name in (*named.values(), OTHERS, MISSING)}
    for row, label in enumerate(labels):
        found[MISSING if label is None else named.get(label, OTHERS)].append(row)
    return {name: rows for name, rows in found.items() if rows}


def _names(labels: Sequence[Label]) -> dict[Label, str]:
    """A name for each value, no two alike, and none like those of missing and other values."""
    taken = {MISSING, OTHERS}
    names = {}
    for label in labels:
        name, number = label.name, 2
        while name in taken:
            name, number = f"{label.name} ({number})", number + 1
        taken.add(name)
        names[label] = name
    return names


def part_of(outcome: Outcome, rows: Sequence[int]) -> Outcome:
    """The outcome of some of the rows (indices into its examples, ascending), as if no others had been scored."""
    places = {row: place for place, row in enumerate(rows)}
    kept = [index for index, question in enumerate(outcome.questions) if question.row in places]
    answered = [place for place, index in enumerate(outcome.answered_places) if outcome.questions[index].row in places]
    sides = {name: _part_of_side(side, kept, answered) for name, side in outcome.sides.items()}
    return replace(
        outcome,
        examples=[outcome.examples[row] for row in rows],
        questions=[_moved(outcome, index, places) for index in kept],
        base=sides.get("base"),
        tuned=sides["tuned"],
        samples=0,
        latency={},
        retention=None,
        reordered=part_of(outcome.reordered, rows) if outcome.reordered else None,
        slices={},
        prompts=(),
    )


def _moved(outcome: Outcome, index: int, places: Mapping[int, int]) -> Question:
    question = outcome.questions[index]
    return replace(question, row=places[question.row])


def _part_of_side(side: Side, kept: Sequence[int], answered: Sequence[int]) -> Side:
    scores = replace(side.scores, table=[side.scores.table[index] for index in kept])
    return replace(side, scores=scores, answers=[side.answers[place] for place in answered])


def memberships(slices: Mapping[str, Outcome], examples: Sequence[Example]) -> Iterator[list[str]]:
    """The slices that each row of the held-out rows is in, by name, row by row."""
    rows: dict[int, list[str]] = {}
    for name, part in slices.items():
        for example in part.examples:
            rows.setdefault(id(example), []).append(name)
    return (rows.get(id(example), []) for example in examples)
