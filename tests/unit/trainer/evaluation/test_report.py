"""From likelihoods and answers to the status section and report.json."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.base import number
from finetune_api.results import StageResult
from finetune_api.termination import LIMIT_BYTES, encode
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.evaluation.answers import read_answer
from finetune_trainer.evaluation.measure import Measured, measure
from finetune_trainer.evaluation.metrics import metrics_of
from finetune_trainer.evaluation.outcome import Agreement, Generated, Outcome, Scores, Side
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.report import (
    About,
    evaluation_status,
    report_document,
    report_lines,
    rounding_advice,
)
from finetune_trainer.evaluation.statistics import wilson_interval

TEMPLATE = "The correct answer is {answer}."
ABOUT = About(dropped=2, shared=1)
ALL = ("Accuracy", "LetterAccuracy", "Perplexity")
URI = "pvc://models/a/evaluations/0123456789ab/report.json"
DIGESTS = {"trainingSha256": "a" * 64, "evaluationSha256": "b" * 64}
# The right option of each row, and what each model chooses: by response, by key.
RIGHT = "BABA"
BASE, BASE_KEYS = "AAAA", "BBBB"
TUNED, TUNED_KEYS = "BABB", "BABA"


def example_of(number: int, right: str, texts: tuple[str, str] = ("one", "two")) -> Example:
    options = tuple(
        Choice(letter, text, TEMPLATE.format(answer=text)) for letter, text in zip("AB", texts, strict=True)
    )
    choices = Choices(options, "AB".index(right))
    messages = (
        Message("user", f"Which {number}?\nA. one\nB. two"),
        Message("assistant", choices.options[choices.right].response),
    )
    return Example(messages, choices, question=f"Which {number}?", sha256=f"{number:064x}")


def side_of(by_option: str, by_key: str, token: float, answers: tuple[str, ...] = (), cut: bool = False) -> Side:
    """A model that gives every token of a chosen response ``token``, and of others twice that."""
    table = [
        [
            *([token, token] if letter == option else [2 * token, 2 * token] for letter in "AB"),
            *([-0.5] if letter == key else [-2.5] for letter in "AB"),
        ]
        for option, key in zip(by_option, by_key, strict=True)
    ]
    agreement = Agreement(checked=2, different=1, missed=0, settled=1, changed=1, way="SharedPrompts")
    rows = (example_of(number, right) for number, right in enumerate(RIGHT))
    return Side(Scores(table, agreement), [answer_of(row, text, cut) for row, text in zip(rows, answers, strict=False)])


def answer_of(row: Example, text: str, cut: bool) -> Generated:
    assert row.choices
    return Generated(text, cut, read_answer(text, row.choices, TEMPLATE, cut))


def outcome_of(with_base: bool = True, keys: tuple[list[int], list[int]] = ([5], [6]), **sides: Any) -> Outcome:
    examples = [example_of(number, right) for number, right in enumerate(RIGHT)]
    questions = [
        Question([1], [[2, 9], [3, 9]], list(keys), 1, example.choices, row, example)
        for row, example in enumerate(examples)
    ]
    base = sides.get("base", side_of(BASE, BASE_KEYS, -2.0)) if with_base else None
    return Outcome(examples, questions, base, sides.get("tuned", side_of(TUNED, TUNED_KEYS, -0.5)), 12.6, samples=4)


def measured(outcome: Outcome, names: tuple[str, ...] = ALL) -> list[Measured]:
    return [measure(metric, outcome) for metric in metrics_of(names)]


def status_of(outcome: Outcome, names: tuple[str, ...] = ALL) -> Any:
    return evaluation_status(outcome, measured(outcome, names), ABOUT, URI)


def test_both_models_are_measured_on_the_same_rows_with_intervals_and_a_paired_test() -> None:
    status = status_of(outcome_of())
    assert status.summary == "0.50→0.75"
    assert (status.examples, status.dropped_examples, status.shared_examples) == (4, 2, 1)
    assert [metric.name for metric in status.metrics] == list(ALL)
    accuracy = status.metric("Accuracy")
    assert (accuracy.base.value, accuracy.tuned.value, accuracy.difference) == ("0.5", "0.75", "0.25")
    low, high = wilson_interval(3, 4)
    assert (accuracy.tuned.interval95.low, accuracy.tuned.interval95.high) == (number(low), number(high))
    # Row 3: base right, tuned wrong; rows 0 and 2 the other way; row 1 both right.
    assert (accuracy.paired_test.base_only, accuracy.paired_test.tuned_only) == (1, 2)
    assert accuracy.p_value == "1"
    letters = status.metric("LetterAccuracy")
    assert (letters.tuned.value, letters.p_value) == ("1", "0.5")
    assert letters.examples is None


def test_perplexity_is_the_exponential_of_the_mean_loss_over_the_tokens_of_right_responses() -> None:
    status = status_of(outcome_of(), ("Perplexity",))
    found = status.metric("Perplexity")
    # Base chose rightly in rows 1 and 3 (2 tokens of 2 nats each), wrongly in the others (4 nats each).
    assert float(found.base.value) == pytest.approx(math.exp((2 * 2 * 2 + 2 * 2 * 4) / 8), rel=1e-5)
    assert float(found.tuned.value) == pytest.approx(math.exp((3 * 2 * 0.5 + 2 * 1.0) / 8), rel=1e-5)
    assert float(found.difference or 0) == pytest.approx(float(found.tuned.value) - float(found.base.value), rel=1e-5)
    assert (found.p_value, found.paired_test) == (None, None)
    assert status.summary == f"perplexity {float(found.base.value):.2f}→{float(found.tuned.value):.2f}"


def test_without_a_base_model_there_is_nothing_to_compare() -> None:
    status = status_of(outcome_of(with_base=False))
    assert status.summary == "0.75"
    for metric in status.metrics:
        assert (metric.base, metric.difference, metric.p_value, metric.paired_test) == (None, None, None, None)


def test_a_metric_that_no_row_allows_is_omitted_with_its_reason_and_the_next_one_makes_the_summary() -> None:
    status = status_of(outcome_of(keys=([5], [5])), ("LetterAccuracy", "Accuracy"))
    letters = status.metric("LetterAccuracy")
    assert letters.omitted == "it can't be had on any row: the keys A and B have the same tokens"
    assert (letters.tuned, letters.base) == (None, None)
    assert status.summary == "0.50→0.75"


def test_rows_that_a_metric_can_not_be_had_on_are_left_out_of_it_and_counted() -> None:
    outcome = outcome_of()
    first = outcome.questions[0]
    same = replace(first, keys=[[5], [5]])
    outcome = Outcome(outcome.examples, [same, *outcome.questions[1:]], outcome.base, outcome.tuned, 1.0)
    status = status_of(outcome)
    letters, accuracy = status.metric("LetterAccuracy"), status.metric("Accuracy")
    assert (letters.examples, accuracy.examples) == (3, None)
    document = report_document(outcome, measured(outcome), ABOUT, status, DIGESTS)
    assert "LetterAccuracy" not in document["rows"][0]["tuned"]
    assert document["rows"][1]["tuned"]["LetterAccuracy"] == {"option": "A", "right": True}


ANSWERS = ("The correct answer is two.", "The correct answer is three.", "The correct answer is", "I don't know.")


def test_answers_say_what_they_name_and_whether_it_is_right() -> None:
    outcome = outcome_of(
        base=side_of(BASE, BASE_KEYS, -2.0, ("A", *ANSWERS[1:3])), tuned=side_of(TUNED, TUNED_KEYS, -0.5, ANSWERS[:3])
    )
    status = status_of(outcome)
    first, second, third = status.samples
    assert (first.prompt, first.expected) == ("Which 0?\nA. one\nB. two", "The correct answer is two.")
    assert (first.base.names, first.base.option, first.base.right) == ("Option", "A", False)
    assert (first.tuned.names, first.tuned.option, first.tuned.right) == ("Option", "B", True)
    assert (second.tuned.names, second.tuned.option, second.tuned.right) == ("NoSuchOption", None, None)
    assert (third.tuned.names, third.tuned.option, third.tuned.right) == ("Nothing", None, None)
    lines = "\n".join(report_lines(outcome, status))
    assert "tuned:    The correct answer is two.  [names B, right]" in lines
    assert "[names an option that isn't there]" in lines
    assert "[names no option]" in lines


def test_a_cut_answer_is_told_from_an_invented_one() -> None:
    outcome = outcome_of(
        with_base=False, tuned=side_of(TUNED, TUNED_KEYS, -0.5, ("The correct answer is thr",), cut=True)
    )
    (sample,) = status_of(outcome).samples
    assert sample.tuned.names == "Nothing"
    document = report_document(outcome, measured(outcome), ABOUT, status_of(outcome), DIGESTS)
    assert document["samples"][0]["tuned"] == {"answer": "The correct answer is thr", "cut": True, "names": "Nothing"}


def test_long_answers_are_cut_for_status_and_whole_in_the_report() -> None:
    answers = tuple(f"{number} " + "ä" * 3000 for number in range(4))
    side = side_of(TUNED, TUNED_KEYS, -0.5, answers)
    found = outcome_of(base=side, tuned=side)
    status = status_of(found)
    assert len(status.samples) == 3
    assert status.samples[0].tuned.text.endswith("…")
    result = StageResult.model_validate(
        {
            "stage": "Evaluate",
            "jobUID": "u",
            "trainingSha256": "a" * 64,
            "evaluationSha256": "b" * 64,
            "finishedAt": "2026-11-24T00:00:00Z",
        }
    ).model_copy(update={"evaluation": status})
    assert len(encode(result).encode()) <= LIMIT_BYTES
    document = report_document(found, measured(found), ABOUT, status, DIGESTS)
    assert len(document["samples"]) == 4
    assert len(document["samples"][0]["tuned"]["answer"]) == 3002


def test_the_report_has_every_row_by_its_digest_and_counts_what_was_chosen() -> None:
    found = outcome_of()
    document = report_document(found, measured(found), ABOUT, status_of(found), DIGESTS)
    assert json.loads(json.dumps(document)) == document
    assert {name: document[name] for name in DIGESTS} == DIGESTS
    assert set(ALL) < set(document["definitions"])
    assert document["chosen"] == {
        "right": {"A": 2, "B": 2},
        "base": {"Accuracy": {"A": 4}, "LetterAccuracy": {"B": 4}},
        "tuned": {"Accuracy": {"A": 1, "B": 3}, "LetterAccuracy": {"A": 2, "B": 2}},
    }
    assert document["agreement"]["base"] == {
        "checked": 2,
        "different": 1,
        "missed": 0,
        "settled": 1,
        "changed": 1,
        "way": "SharedPrompts",
    }
    assert document["rows"][3] == {
        "sha256": f"{3:064x}",
        "question": "Which 3?",
        "options": {"A": "one", "B": "two"},
        "right": "A",
        "base": {
            "Accuracy": {"option": "A", "right": True},
            "LetterAccuracy": {"option": "B", "right": False},
            "Perplexity": {"rightLogLikelihood": -4.0, "rightTokens": 2},
        },
        "tuned": {
            "Accuracy": {"option": "B", "right": False},
            "LetterAccuracy": {"option": "A", "right": True},
            "Perplexity": {"rightLogLikelihood": -2.0, "rightTokens": 2},
        },
    }
    evaluation = document["evaluation"]
    assert evaluation["droppedExamples"] == 2
    assert evaluation["metrics"][0]["tuned"]["value"] == "0.75"


def test_an_accuracy_of_the_report_can_be_had_again_from_its_rows() -> None:
    found = outcome_of()
    document = report_document(found, measured(found), ABOUT, status_of(found), DIGESTS)
    for index, name in enumerate(("Accuracy", "LetterAccuracy")):
        for model in ("base", "tuned"):
            right = [row[model][name]["option"] == row["right"] for row in document["rows"]]
            assert float(document["evaluation"]["metrics"][index][model]["value"]) == sum(right) / len(right)


def test_rows_that_rounding_decided_unseen_are_an_advice() -> None:
    found = outcome_of()
    assert rounding_advice(found) == []
    agreement = Agreement(checked=32, different=3, missed=1, settled=9, changed=2, way="SharedPrompts")
    tuned = Side(Scores(found.tuned.scores.table, agreement), [])
    (advice,) = rounding_advice(outcome_of(tuned=tuned))
    assert advice.reason == "RoundingDecides"
    assert "1 of 32 checked rows (tuned)" in advice.message


def test_the_report_has_what_metrics_say_beside_their_value_and_what_is_had_without_a_model() -> None:
    found = outcome_of()
    names = ("Accuracy", "CalibrationError")
    document = report_document(found, measured(found, names), ABOUT, status_of(found, names), DIGESTS)
    assert set(document["details"]) == {"CalibrationError"}
    assert sum(one["rows"] for one in document["details"]["CalibrationError"]["tuned"]["bins"]) == len(RIGHT)
    assert document["baselines"] == {"guessing": 0.5, "mostFrequentLetter": {"letter": "A", "share": 0.5}}
    assert document["rows"][0]["tuned"]["CalibrationError"]["right"]
    lines = list(report_lines(found, status_of(found, names)))
    assert "without a model: guessing is right in 0.500 of the rows, always saying A in 0.500" in lines
    assert any(line.startswith("base: batches decided 1 of 2 rows (50.0%) as a plain pass does") for line in lines)
