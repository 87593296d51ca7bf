"""The status section and report.json of rows that have no options: conversations, instructions, documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from finetune_trainer.data.example import Example, Message
from finetune_trainer.evaluation.measure import Measured, measure
from finetune_trainer.evaluation.metrics import metrics_of
from finetune_trainer.evaluation.outcome import Agreement, Generated, Outcome, Scores, Side
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.report import About, evaluation_status, report_document, report_lines

ALL = ("Accuracy", "LetterAccuracy", "Perplexity")
ABOUT = About(dropped=1, shared=2)
AGREEMENT = Agreement(checked=2, different=0, missed=0, settled=0, changed=0, way="SharedPrompts")


def conversation(*contents: str, **about: Any) -> Example:
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[place % 2], text) for place, text in enumerate(contents)), **about)


TALK = conversation("Hello?", "Yes.", "And now?", "Now, too.", sha256="a" * 64, where="test.jsonl row 1")
SHORT = conversation("Who?", "Nobody.", sha256="b" * 64, where="test.jsonl row 2")
BOOK = Example(text="Once upon a time. " * 100, sha256="c" * 64, where="test.jsonl row 3")


def talk_outcome(answers: Sequence[Generated] = ()) -> Outcome:
    first = Example(TALK.messages[:2], sha256=TALK.sha256)
    questions = [
        Question([1], [[5, 6]], [], 1, row=row, turn=turn) for row, turn in ((0, first), (0, TALK), (1, SHORT))
    ]
    table = [[[-1.0, -2.0]], [[-3.0, -0.5]], [[-0.25, -0.25]]]
    halves = [[[value / 2 for value in values] for values in row] for row in table]
    base, tuned = (Side(Scores(values, AGREEMENT), answers) for values in (table, halves))
    return Outcome([TALK, SHORT], questions, base, tuned, 3.0, samples=2)


def documents_outcome() -> Outcome:
    questions = [Question([1], [[5]], [], 0, row=0, turn=BOOK), Question([5], [[6, 7]], [], 0, row=0, turn=BOOK)]
    side = Side(Scores([[[-1.0]], [[-2.0, -3.0]]], AGREEMENT), [])
    return Outcome([BOOK], questions, None, side, 3.0)


def measured(outcome: Outcome, names: tuple[str, ...] = ALL) -> list[Measured]:
    return [measure(metric, outcome) for metric in metrics_of(names)]


def status_of(outcome: Outcome) -> Any:
    return evaluation_status(outcome, measured(outcome), ABOUT, "pvc://models/report.json")


def document_of(outcome: Outcome) -> dict[str, Any]:
    return report_document(outcome, measured(outcome), ABOUT, status_of(outcome), {})


def test_accuracies_are_left_out_in_plain_words_and_perplexity_makes_the_summary() -> None:
    status = status_of(talk_outcome())
    for name in ("Accuracy", "LetterAccuracy"):
        assert status.metric(name).omitted == "the rows have no options"
        assert status.metric(name).tuned is None
    found = status.metric("Perplexity")
    assert float(found.base.value) == pytest.approx(math.exp(7 / 6), rel=1e-5)
    assert float(found.tuned.value) == pytest.approx(math.exp(3.5 / 6), rel=1e-5)
    assert status.summary == f"perplexity {math.exp(7 / 6):.2f}→{math.exp(3.5 / 6):.2f}"
    assert (found.omitted, found.examples) == (None, None)


def test_what_is_counted_is_rows_not_responses() -> None:
    status = status_of(talk_outcome())
    assert (status.examples, status.dropped_examples, status.shared_examples) == (2, 1, 2)
    assert next(report_lines(talk_outcome(), status)) == "2 rows scored, in 3 parts, in 3 seconds"


def test_answers_to_rows_without_options_name_none_and_are_judged_by_nobody() -> None:
    outcome = talk_outcome([Generated("Now, as ever.", cut=False), Generated("It was", cut=True)])
    status = status_of(outcome)
    assert [(sample.prompt, sample.expected) for sample in status.samples] == [
        ("And now?", "Now, too."),
        ("Who?", "Nobody."),
    ]
    answer = status.samples[0].tuned
    assert (answer.text, answer.names, answer.option, answer.right) == ("Now, as ever.", None, None, None)
    assert "  tuned:    Now, as ever." in list(report_lines(outcome, status))
    samples = document_of(outcome)["samples"]
    assert samples[1]["tuned"] == {"answer": "It was", "cut": True}
    assert (samples[1]["prompt"], samples[1]["expected"], samples[1]["sha256"]) == ("Who?", "Nobody.", "b" * 64)


def test_the_report_has_each_response_of_a_conversation_with_what_both_models_make_of_it() -> None:
    document = document_of(talk_outcome())
    assert document["rows"][0] == {
        "sha256": "a" * 64,
        "where": "test.jsonl row 1",
        "responses": [
            {
                "prompt": prompt,
                "expected": expected,
                "base": {"Perplexity": {"rightLogLikelihood": base, "rightTokens": 2}},
                "tuned": {"Perplexity": {"rightLogLikelihood": base / 2, "rightTokens": 2}},
            }
            for prompt, expected, base in (("Hello?", "Yes.", -3.0), ("And now?", "Now, too.", -3.5))
        ],
    }
    assert document["chosen"] == {"right": {}, "base": {}, "tuned": {}}


def test_a_document_has_its_windows_and_is_answered_by_nobody() -> None:
    outcome = documents_outcome()
    assert status_of(outcome).samples == []
    (row,) = document_of(outcome)["rows"]
    assert len(row["text"]) == 1000
    assert row["text"].startswith("Once upon a time.")
    assert [one["tuned"]["Perplexity"]["rightTokens"] for one in row["windows"]] == [1, 2]
    assert float(status_of(outcome).metric("Perplexity").tuned.value) == pytest.approx(math.exp(6 / 3), rel=1e-5)


def test_a_call_of_a_tool_is_shown_as_the_expected_response() -> None:
    calls = [{"type": "function", "function": {"name": "look_up", "arguments": {"title": "Atlas"}}}]
    turn = Example((Message("user", "Where?"), Message("assistant", "", extra={"tool_calls": calls})))
    side = Side(Scores([[[-1.0]]], AGREEMENT), [Generated("A shelf.", cut=False)])
    outcome = Outcome([turn], [Question([1], [[5]], [], 0, turn=turn)], None, side, 1.0, samples=1)
    assert '"look_up"' in status_of(outcome).samples[0].expected


def test_thoughts_of_the_expected_response_are_left_out_as_those_of_answers_are() -> None:
    turn = conversation("Where?", "<think>\nUp or down?\n</think>\n\nUp.")
    side = Side(Scores([[[-1.0]]], AGREEMENT), [Generated("Down.", cut=False)])
    outcome = Outcome([turn], [Question([1], [[5]], [], 0, turn=turn)], None, side, 1.0, samples=1)
    assert status_of(outcome).samples[0].expected == "Up."
