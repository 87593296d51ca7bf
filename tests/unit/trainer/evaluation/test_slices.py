"""Slices: figures of some of the rows, which equal those of an evaluation of these rows alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from finetune_api.results import SliceStatus, metrics_of_slice
from finetune_api.slices import SliceSpec
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.labels import label_of
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics import metrics_of
from finetune_trainer.evaluation.outcome import Agreement, Generated, Outcome, Prompted, Scores, Side
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.report import About, evaluation_status, report_document, report_lines
from finetune_trainer.evaluation.slice_status import few_rows_advice, in_status, slice_statuses
from finetune_trainer.evaluation.slices import part_of, rows_by_value, slices_of
from finetune_trainer.evaluation.statistics import holm

METRICS = metrics_of(("Accuracy", "LetterAccuracy", "Perplexity"))
AGREEMENT = Agreement(checked=2, different=0, missed=0, settled=0, changed=0, way="SharedPrompts")
TOPIC = SliceSpec(name="topic", column="topic")


def row_of(number: int, topic: object) -> Example:
    options = tuple(Choice(letter, f"{letter} {number}", f"It is {letter} {number}.") for letter in "AB")
    choices = Choices(options, number % 2)
    messages = (Message("user", f"Which {number}?"), Message("assistant", options[number % 2].response))
    labels = {"topic": label_of(topic)}
    return Example(messages, choices, question=f"Which {number}?", sha256=f"{number:064x}", labels=labels)


def evaluated(rows: Sequence[Example], seed: str = "") -> Outcome:
    """What scoring these rows comes to: random likelihoods, which a row's digest decides."""

    def side(name: str) -> Side:
        def draw(row: Example, count: int) -> list[list[float]]:
            chance = random.Random(f"{seed}{name}{row.sha256}")
            return [[chance.uniform(-3, -0.1) for _ in range(2)] for _ in range(count)]

        table = [[*draw(row, 2), *([values[0]] for values in draw(row, 2))] for row in rows]
        return Side(Scores(table, AGREEMENT), [Generated(f"{name} {row.question}", False) for row in rows[:5]])

    questions = [
        Question([1], [[2, 9], [3, 9]], [[5], [6]], 1, row.choices, place, row) for place, row in enumerate(rows)
    ]
    return Outcome(rows, questions, side("base"), side("tuned"), 1.0, samples=3)


ROWS = [row_of(number, ["heart", "lung", None, "heart", "skin"][number % 5]) for number in range(60)]


@pytest.mark.parametrize("topic", ["heart", "lung", "skin", "(missing)"])
def test_the_figures_of_a_slice_equal_those_of_an_evaluation_of_its_rows_alone(topic: str) -> None:
    whole = evaluated(ROWS)
    slices = slices_of(whole, [TOPIC], {})
    name = None if topic == "(missing)" else topic
    alone = evaluated([row for row in ROWS if (row.labels["topic"].name if row.labels["topic"] else None) == name])
    part = slices[f"topic={topic}"]
    assert len(part.examples) == (24 if topic == "heart" else 12)
    for metric in METRICS:
        assert measure(metric, part).status == measure(metric, alone).status
    assert [one.text for one in part.tuned.answers] == [
        f"tuned {row.question}" for row in ROWS[:5] if row in part.examples
    ]


def test_a_row_of_several_questions_keeps_all_of_them() -> None:
    whole = evaluated(ROWS[:4])
    doubled = [replace(one, row=one.row // 2) for one in whole.questions]
    part = part_of(replace(whole, questions=doubled, examples=ROWS[:2]), [1])
    assert [one.turn.question for one in part.questions] == ["Which 2?", "Which 3?"]
    assert [one.row for one in part.questions] == [0, 0]
    assert part.tuned.scores.table == whole.tuned.scores.table[2:]


def test_values_come_by_frequency_and_beyond_sixteen_of_them_together() -> None:
    topics = [topic for topic in range(20) for _ in range(20 - topic)]
    found = rows_by_value([row_of(number, topic) for number, topic in enumerate([None, *topics])], "topic")
    assert list(found) == [*map(str, range(16)), "(others)", "(missing)"]
    assert (len(found["0"]), len(found["(others)"]), found["(missing)"]) == (20, 4 + 3 + 2 + 1, [0])


def test_values_of_one_name_are_told_apart_and_none_poses_as_missing() -> None:
    values = [1, "1", "1", "(missing)", None, "(others)"]
    found = rows_by_value([row_of(number, value) for number, value in enumerate(values)], "topic")
    assert found == {"1": [1, 2], "1 (2)": [0], "(missing) (2)": [3], "(others) (2)": [5], "(missing)": [4]}


def test_a_made_name_does_not_meet_a_value_of_that_name() -> None:
    values = ["1", 1, "1 (2)"]
    found = rows_by_value([row_of(number, value) for number, value in enumerate(values)], "topic")
    assert len(found) == 3
    assert sorted(rows for (rows,) in found.values()) == [0, 1, 2]


def step_down(p_values: Sequence[Fraction], alpha: Fraction) -> set[int]:
    """Holm's own words: reject the smallest while it is at most alpha over the number that is left."""
    rejected: set[int] = set()
    while len(rejected) < len(p_values):
        left = [place for place in range(len(p_values)) if place not in rejected]
        best = min(left, key=lambda place: (p_values[place], place))
        if p_values[best] > alpha / len(left):
            break
        rejected.add(best)
    return rejected


@pytest.mark.parametrize("seed", range(40))
def test_adjusted_p_values_reject_what_holms_procedure_does_at_every_level(seed: int) -> None:
    chance = random.Random(seed)
    exact = [Fraction(chance.choice([1, 2, 5, 10, 40, 90]), 100 * 2 ** chance.randrange(4)) for _ in range(8)]
    adjusted = holm([float(one) for one in exact])
    for alpha in (Fraction(number, 1009) for number in range(1, 1009, 7)):  # meets no multiple of those above
        assert {place for place, one in enumerate(adjusted) if one <= alpha} == step_down(exact, alpha)


def test_holm_agrees_with_r() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_raw_p_values_stand_beside_those_that_are_adjusted_over_all_slices_metric_by_metric() -> None:
    statuses = slice_statuses(slices_of(evaluated(ROWS), [TOPIC], {}), METRICS)
    for place, name in enumerate(("Accuracy", "LetterAccuracy")):
        metrics = [one.metrics[place] for one in statuses]
        assert {one.name for one in metrics} == {name}
        expected = holm([float(one.p_value or "nan") for one in metrics])
        assert [float(one.adjusted_p_value or "nan") for one in metrics] == pytest.approx(expected, rel=1e-2)
    assert {one.metrics[2].adjusted_p_value for one in statuses} == {None}


def test_without_a_base_model_nothing_is_adjusted() -> None:
    statuses = slice_statuses(slices_of(replace(evaluated(ROWS), base=None), [TOPIC], {}), METRICS)
    assert all(metric.adjusted_p_value is None for one in statuses for metric in one.metrics)


def test_slices_of_few_rows_are_named_with_their_numbers() -> None:
    slices = slices_of(evaluated(ROWS), [TOPIC], {})
    (advice,) = few_rows_advice(slices)
    assert advice.reason == "FewRowsInSlices"
    assert "topic=heart (24), topic=lung (12)" in advice.message
    assert all(one.warning for one in slice_statuses(slices, METRICS))
    many = slices_of(evaluated([row_of(number, "one") for number in range(30)]), [TOPIC], {})
    assert few_rows_advice(many) == []
    assert slice_statuses(many, METRICS)[0].warning is None


def test_a_status_holds_sixteen_slices_those_with_rows_of_their_own_among_them() -> None:
    rows = [row_of(number, f"t{topic}") for topic in range(15) for number in range(20 - topic)]
    edges = evaluated([row_of(number, None) for number in range(2)])
    specs = [TOPIC, SliceSpec(name="edges", column="x"), SliceSpec(name="again", column="topic")]
    slices = {**slices_of(evaluated(rows), [specs[0], specs[2]], {}), "edges": edges}
    statuses = slice_statuses(slices, METRICS)
    shown = in_status(statuses)
    assert len(statuses) == 31
    assert [one.name for one in shown] == [
        *(f"topic=t{number}" for number in range(8)),
        *(f"again=t{number}" for number in range(7)),
        "edges",
    ]
    assert {len(one.metrics) for one in shown} == {1}
    assert {one.metrics[0].name for one in shown} == {"Accuracy"}


def test_a_status_shows_the_first_metric_that_a_slice_has_a_value_of() -> None:
    rows = [replace(row, choices=None) for row in ROWS]
    outcome = evaluated(ROWS)
    plain = replace(outcome, examples=rows, questions=[replace(one, choices=None) for one in outcome.questions])
    (shown, *_) = in_status(slice_statuses({"edges": plain}, METRICS))
    assert [metric.name for metric in shown.metrics] == ["Perplexity"]


def test_the_metrics_of_a_slice_are_found_by_its_name() -> None:
    statuses = slice_statuses(slices_of(evaluated(ROWS), [TOPIC], {}), METRICS)
    found = metrics_of_slice(statuses, "topic=lung")
    assert found is not None
    assert [metric.name for metric in found] == ["Accuracy", "LetterAccuracy", "Perplexity"]
    assert metrics_of_slice(statuses, "topic=liver") is None


def whole_outcome(**more: Any) -> Outcome:
    """With slices by topic, and one of rows of its own."""
    outcome = evaluated(ROWS)
    edges = evaluated([row_of(number, None) for number in range(100, 107)])
    file = SliceSpec.model_validate({"name": "edges", "dataset": {"source": "pvc://a/b"}})
    return replace(outcome, slices=slices_of(outcome, [file, TOPIC], {"edges": edges}), **more)


def test_the_report_has_every_slice_whole_and_says_which_rows_it_is_of() -> None:
    outcome = whole_outcome()
    measured = [measure(metric, outcome) for metric in METRICS]
    status = evaluation_status(outcome, measured, About(0, 0), "pvc://a/report.json")
    document = report_document(outcome, measured, About(0, 0), status, {})
    found = {one["name"]: one for one in document["slices"]}
    assert list(found) == ["edges", "topic=heart", "topic=lung", "topic=skin", "topic=(missing)"]
    assert [metric["name"] for metric in found["topic=heart"]["metrics"]] == [
        "Accuracy",
        "LetterAccuracy",
        "Perplexity",
    ]
    assert [row["sha256"] for row in found["edges"]["rows"]] == [f"{number:064x}" for number in range(100, 107)]
    assert "rows" not in found["topic=heart"]
    # Each figure can be had again from the rows of the report.
    lung = [row for row in document["rows"] if row["slices"] == ["topic=lung"]]
    right = sum(row["tuned"]["Accuracy"]["right"] for row in lung)
    assert float(found["topic=lung"]["metrics"][0]["tuned"]["value"]) == pytest.approx(right / len(lung), abs=1e-5)
    assert SliceStatus.model_validate(found["topic=lung"]).metrics[0] == status.slices[2].metrics[0]
    lines = list(report_lines(outcome, status))
    assert any(line.startswith("slice topic=lung, 12 rows (fewer than 30 rows") for line in lines)
    assert any("adjusted)" in line for line in lines)


def prompted(name: str | None, text: str) -> Prompted:
    answers = {side: Generated(f"{side} says {text}", True) for side in ("base", "tuned")}
    return Prompted(name, text, "Omit", 3, answers)


def test_own_prompts_come_before_held_out_rows_in_status_and_whole_in_the_report() -> None:
    outcome = whole_outcome(prompts=[prompted("letters", "F." * 400), prompted(None, "Hello")])
    measured = [measure(metric, outcome) for metric in METRICS]
    status = evaluation_status(outcome, measured, About(0, 0), "pvc://a/report.json")
    assert [(one.name, one.expected) for one in status.samples[:2]] == [("letters", ""), (None, "")]
    assert len(status.samples[0].prompt) == 512
    assert len(status.samples) == 3
    assert status.samples[2].expected.startswith("It is")
    document = report_document(outcome, measured, About(0, 0), status, {})
    first, second = document["prompts"]
    assert (first["name"], first["prompt"], first["chatTemplate"]) == ("letters", "F." * 400, "Omit")
    assert second["tuned"] == {"answer": "tuned says Hello", "cut": True}
    assert len(document["samples"]) == 3
    lines = list(report_lines(outcome, status))
    assert "prompt: Hello" in lines
    assert "  base:     base says Hello" in lines
