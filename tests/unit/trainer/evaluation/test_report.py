"""From scores to the status section and report.json."""

from __future__ import annotations

import json

from finetune_api.inputs import EvaluationDatasetSpec
from finetune_api.results import StageResult
from finetune_api.spec import EvaluationSpec
from finetune_api.termination import LIMIT_BYTES, encode
from finetune_trainer.data.formats.multiple_choice import ChoiceRow
from finetune_trainer.evaluation.questions import Score
from finetune_trainer.evaluation.report import Outcome, Sample, evaluation_status, report_document

DATASET = EvaluationDatasetSpec(source="pvc://data/rows.jsonl")
ROWS = [ChoiceRow(f"Which {number}?", {"A": "one", "B": "two"}, "AB"[number % 2]) for number in range(4)]


def scores(options: str, letters: str, log_likelihood: float = -2.0) -> list[Score]:
    pairs = zip(options, letters, strict=True)
    return [Score("AB".index(option), "AB".index(letter), log_likelihood, 4) for option, letter in pairs]


def outcome(with_base: bool = True, samples: list[Sample] | None = None) -> Outcome:
    base = scores("AAAA", "BBBB", -4.0) if with_base else None
    return Outcome(ROWS, base, scores("ABAB", "ABAA"), samples or [], 12.6)


def test_both_models_are_scored_on_the_same_rows_with_intervals_and_a_paired_test() -> None:
    status = evaluation_status(outcome(), EvaluationSpec(dataset=DATASET), "pvc://models/a/report/report.json")
    assert status.summary == "0.50→1.00"
    assert status.examples == 4
    assert status.base
    assert status.base.accuracy == "0.5"
    assert status.base.letter_accuracy == "0.5"
    assert status.tuned.accuracy == "1"
    assert status.tuned.letter_accuracy == "0.75"
    assert status.tuned.accuracy_interval95
    assert float(status.tuned.accuracy_interval95.low) < 1
    assert (status.base.perplexity, status.tuned.perplexity) == ("2.71828", "1.64872")
    assert status.paired_test
    assert (status.paired_test.base_only, status.paired_test.tuned_only) == (0, 2)
    assert status.paired_test.p_value == "0.5"


def test_only_the_metrics_asked_for_are_there() -> None:
    status = evaluation_status(outcome(), EvaluationSpec(dataset=DATASET, metrics=["Perplexity"]), "")
    assert status.tuned.accuracy is None
    assert status.paired_test is None
    assert status.summary == "perplexity 2.72→1.65"


def test_without_a_base_model_there_is_nothing_to_pair() -> None:
    status = evaluation_status(outcome(with_base=False), EvaluationSpec(dataset=DATASET, compare_with_base=False), "")
    assert status.base is None
    assert status.paired_test is None
    assert status.summary == "1.00"


def long_sample(number: int) -> Sample:
    text = f"{number} " + "ä" * 3000
    return Sample(prompt=text, expected=text, base=text, tuned=text, base_option=None, tuned_option="A")


def test_long_answers_are_cut_for_status_and_whole_in_the_report() -> None:
    found = outcome(samples=[long_sample(number) for number in range(5)])
    status = evaluation_status(found, EvaluationSpec(dataset=DATASET), "pvc://models/a/report/report.json")
    assert len(status.samples) == 3
    assert status.samples[0].base.endswith("…")
    assert status.samples[0].base_invented
    assert not status.samples[0].tuned_invented
    result = StageResult.model_validate(
        {"stage": "Evaluate", "jobUID": "u", "specSha256": "a" * 64, "finishedAt": "2026-11-24T00:00:00Z"}
    ).model_copy(update={"evaluation": status})
    assert len(encode(result).encode()) <= LIMIT_BYTES
    document = report_document(found, status)
    assert len(document["samples"]) == 5
    assert len(document["samples"][0]["tuned"]["answer"]) == 3002


def test_the_report_has_every_row_and_counts_the_letters() -> None:
    found = outcome()
    document = report_document(found, evaluation_status(found, EvaluationSpec(dataset=DATASET), ""))
    assert json.loads(json.dumps(document)) == document
    assert document["letters"]["right"] == {"A": 2, "B": 2}
    assert document["letters"]["base"] == {"byOption": {"A": 4}, "byLetter": {"B": 4}}
    assert [row["tuned"]["option"] for row in document["rows"]] == ["A", "B", "A", "B"]
    assert [row["right"] for row in document["rows"]] == ["A", "B", "A", "B"]
