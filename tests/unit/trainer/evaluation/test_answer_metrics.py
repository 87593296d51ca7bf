"""Metrics of what models write, from answers whose verdict is known."""

from __future__ import annotations

import time
from typing import Any

import pytest

from finetune_trainer.evaluation.answer_kinds import count_answers
from finetune_trainer.evaluation.answers import read_answer
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics import METRICS, metrics_of, want_answers
from finetune_trainer.evaluation.outcome import Outcome
from finetune_trainer.evaluation.report import About, evaluation_status, report_document, report_lines
from written_answers import TEMPLATE, documents, with_options, without_options

ABOUT = About(0, 0)
RATES = ("GeneratedAccuracy", "InvalidAnswerRate", "EmptyAnswerRate", "CutAnswerRate")
# What each model writes of four rows whose right option is A, B, C and D, and whether it was cut.
BASE = [("F: swamp.", False), ("The correct answer is G.", False), ("", False), ("Herons are birds. Herons", True)]
TUNED = [
    ("The correct answer is old barn.", False),
    ("B", False),
    ("The correct answer is sea shore.", False),
    ("The correct answer is J.", False),
]


def status_of(outcome: Outcome, *names: str) -> Any:
    return evaluation_status(outcome, [measure(metric, outcome) for metric in metrics_of(names)], ABOUT, "")


def test_what_answers_name_is_counted_for_both_models_and_compared_row_by_row() -> None:
    status = status_of(with_options(TUNED, BASE), *RATES)
    values = {one.name: (one.base.value, one.tuned.value) for one in status.metrics}
    assert values == {
        "GeneratedAccuracy": ("0", "0.5"),
        "InvalidAnswerRate": ("0.5", "0.25"),
        "EmptyAnswerRate": ("0.25", "0"),
        "CutAnswerRate": ("0.25", "0"),
    }
    # Rows 0 and 1: base invents an option, tuned doesn't; row 3 the other way: right is who doesn't.
    invalid = status.metric("InvalidAnswerRate").paired_test
    assert (invalid.base_only, invalid.tuned_only) == (1, 2)
    right = status.metric("GeneratedAccuracy").paired_test
    assert (right.base_only, right.tuned_only) == (0, 2)
    assert all(one.tuned.interval95 for one in status.metrics)
    assert status.summary == "generated 0.00→0.50"


def test_an_answer_that_names_none_or_was_cut_before_it_did_is_no_invented_option() -> None:
    written = [("None of them.", False), ("Herons are", True), ("", False), ("F", False)]
    assert status_of(with_options(written), "InvalidAnswerRate").metrics[0].tuned.value == "0.25"


def test_of_invented_options_less_is_better() -> None:
    better = {name: METRICS[name].better for name in METRICS}
    lower = {name for name, one in better.items() if one == "Lower"}
    assert lower == {"CalibrationError", "Perplexity", "InvalidAnswerRate", "EmptyAnswerRate", "CutAnswerRate"}


def test_naming_a_metric_of_answers_has_all_rows_answered() -> None:
    assert all(want_answers(metrics_of([name])) for name in (*RATES, "BLEU", "ChrF"))
    assert not want_answers(metrics_of(["Accuracy", "Perplexity"]))


def test_rows_without_options_have_what_applies_to_them_and_say_why_the_rest_is_left_out() -> None:
    status = status_of(without_options(["So.", " \u200b\n"], ["So.", "No."]), *RATES, "BLEU", "ChrF")
    omitted = {one.name: one.omitted for one in status.metrics if one.omitted}
    assert omitted == dict.fromkeys(("GeneratedAccuracy", "InvalidAnswerRate"), "the rows have no options")
    assert status.metric("EmptyAnswerRate").tuned.value == "0.5"


def test_documents_are_answered_by_nobody() -> None:
    for one in status_of(documents(), *RATES, "BLEU", "ChrF").metrics:
        assert one.omitted == "documents are not answered in words"


def test_a_call_of_a_tool_has_no_text_to_compare_with() -> None:
    outcome = without_options(["Up.", "Down."], ["", "Down."])
    assert status_of(outcome, "BLEU").metrics[0].examples == 1
    only = without_options(["Up."], [""])
    assert "calls a tool" in status_of(only, "BLEU").metrics[0].omitted


def test_the_kinds_of_answers_are_counted_in_the_report_and_in_the_log() -> None:
    outcome = with_options(TUNED, BASE)
    measured = [measure(metric, outcome) for metric in metrics_of(RATES)]
    status = evaluation_status(outcome, measured, ABOUT, "")
    document = report_document(outcome, measured, ABOUT, status, {})
    base = {"answers": 4, "Option": 0, "NoSuchOption": 2, "Nothing": 2, "empty": 1, "cut": 1, "offTopic": 0}
    tuned = {"answers": 4, "Option": 3, "NoSuchOption": 1, "Nothing": 0, "empty": 0, "cut": 0, "offTopic": 0}
    assert document["answers"] == {"base": base, "tuned": tuned}
    assert document["chosen"]["tuned"]["GeneratedAccuracy"] == {"A": 1, "B": 1, "E": 1}
    told = "of 4 answers 0 name an option, 2 name one that isn't there, 2 name none, 1 say nothing, 1 were cut"
    assert f"base: {told}, 0 seem off-topic" in list(report_lines(outcome, status))
    row = document["rows"][2]["tuned"]
    assert row["answer"] == {"text": "The correct answer is sea shore.", "cut": False}
    assert row["GeneratedAccuracy"] == {"names": "Option", "option": "E", "right": False}
    assert row["InvalidAnswerRate"] == {"counts": False}


@pytest.mark.parametrize(
    ("answer", "off_topic"),
    [
        ("Bananas grow upwards.", True),
        ("A heron, perhaps.", False),  # of the prompt
        ("Somewhere near a bank of sorts.", False),  # of an option
        ("B", False),  # an option by its letter
        ("F", False),  # an invented one: told otherwise
        ("", False),  # empty: told otherwise
        ("苹果很好吃", True),
    ],
)
def test_an_answer_is_off_topic_that_shares_no_word_with_what_was_asked(answer: str, off_topic: bool) -> None:
    assert count_answers(with_options([(answer, False)]))["tuned"].off_topic == off_topic


@pytest.mark.parametrize(
    "text",
    [
        "likely " * 20_000,
        "\n" * 300_000 + "x",
        "(" * 300_000,
        "The correct answer is " * 10_000,
        "\x1b[31mB\x1b[0m\x00" * 30_000,
        "\\boxed{" * 30_000,
    ],
    ids=["hedges", "lines", "brackets", "frames", "escapes", "LaTeX"],
)
def test_an_answer_of_megabytes_is_measured_and_shown_cut(text: str) -> None:
    outcome = with_options([(text, True)])
    measured = [measure(metric, outcome) for metric in metrics_of([*RATES, "BLEU", "ChrF"])]
    status = evaluation_status(outcome, measured, ABOUT, "")
    assert len(status.samples[0].tuned.text) <= 512
    assert all(len(line) < 2000 and "\n" not in line for line in report_lines(outcome, status))
    document = report_document(outcome, measured, ABOUT, status, {})
    assert len(document["samples"][0]["tuned"]["answer"]) <= 65_536
    assert len(document["rows"][0]["tuned"]["answer"]["text"]) <= 1000


def test_no_answer_steers_a_terminal_or_writes_a_line_that_looks_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    from finetune_trainer.stage.console import say

    outcome = with_options([("B\x1b[2J\x1b]0;owned\x07\r\nAccuracy: base 0.000, tuned 1.000\u202e\x9b31m", False)])
    for line in report_lines(outcome, status_of(outcome, "EmptyAnswerRate")):
        say(line)
    printed = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert not any(line.startswith("Accuracy") for line in printed.splitlines())


def test_an_answer_without_end_is_read_in_a_moment() -> None:
    (choices,) = {example.choices for example in with_options([("B", False)]).examples}
    assert choices
    started = time.process_time()
    found = read_answer("(" * 2_000_000, choices, TEMPLATE)
    assert time.process_time() - started < 10
    assert found.option is None
