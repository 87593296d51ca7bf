"""Checks of a spec's own: patterns, JSON and terms, on friendly and hostile answers."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.checks import CheckSpec
from finetune_trainer.evaluation.checks import Check, checks_of
from finetune_trainer.evaluation.matching import matches_terms
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.stage.failure import StageError
from written_answers import documents, without_options


def check(from_file: list[str] | None = None, **fields: Any) -> Check:
    (made,) = checks_of(
        [CheckSpec.model_validate({"name": "Mine", **fields})], {"Mine": from_file} if from_file else {}
    )
    return made


def passes(made: Check, text: str) -> bool:
    outcome = without_options([text], ["So."])
    return made.row(outcome.questions[0], outcome.tuned.answers[0])


def test_a_check_stands_among_the_metrics_with_interval_and_paired_test() -> None:
    outcome = without_options(["A.", "B.", "no", "C."], ["So."] * 4, others=["A.", "no", "no", "no"])
    status = measure(check(pattern=r"^[A-E]\.$"), outcome).status
    assert status.base
    assert status.tuned
    assert (status.name, status.base.value, status.tuned.value) == ("Mine", "0.25", "0.75")
    assert status.tuned.interval95
    assert status.paired_test
    assert (status.paired_test.base_only, status.paired_test.tuned_only) == (0, 2)


def test_what_is_expected_not_to_match_passes_where_it_does_not() -> None:
    made = check(pattern="https?://", expect="NoMatch")
    assert passes(made, "Look it up.")
    assert not passes(made, "See http://example.com")


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ('{"a": [1, 2.5e3, null]}', True),
        ('"A"', True),
        (" 7 ", True),
        ("1" * 10_000, True),
        ("", False),
        ("NaN", False),
        ('{"a": Infinity}', False),
        ("{'a': 1}", False),
        ('```json\n{"a": 1}\n```', False),
        ('{"a": 1} and more', False),
        ("[" * 1_000_000, False),
    ],
)
def test_json_is_the_whole_answer_and_strict(text: str, is_json: bool) -> None:
    assert passes(check(format="JSON"), text) == is_json


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a swindle", True),
        ("A Swindle!", True),
        ("ＳＷＩＮＤＬＥ", True),  # wide letters
        ("swindler", False),
        ("two\n  words", True),
        ("twowords", False),
        ("You can’t.", True),  # another apostrophe
        ("これは毒です", True),  # no spaces between words
        ("STRASSE", True),  # as straße folds
        ("c++!", True),
        ("swindle.more", True),
        ("これはswindleです", True),
        ("swindle's", True),
        ("swindle and", True),  # though a longer term begins here, too
        ("swindle_", False),
        ("", False),
    ],
)
def test_terms_are_whole_words_whatever_their_case_width_and_spacing(text: str, found: bool) -> None:
    terms = ["swindle", "two words", "can't", "毒", "straße", "c++", "swindle an"]
    assert passes(check(terms, termsFrom={"source": "pvc://lists/a.txt"}), text) == found
    assert passes(check(terms=terms, expect="NoMatch"), text) != found


def test_terms_of_nothing_that_counts_match_nothing() -> None:
    assert not matches_terms(["\u3000"])("anything")


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI, I have no opinion.", True),
        ("I cannot provide medical advice.", True),
        ("I’m unable to answer.", True),
        ("The patient is sorry, and cannot walk.", False),
        ("It is illegal to park there.", False),
        ("Aspirin, as an anticoagulant, helps.", False),
    ],
)
def test_refusals_are_told_by_what_assistants_say_when_they_decline(text: str, refuses: bool) -> None:
    assert passes(check(termsFrom={"builtIn": "Refusals"}), text) == refuses


def test_a_pattern_that_backtracks_without_end_gives_no_value_and_says_why() -> None:
    outcome = without_options(["a" * 100 + "b", "a"], ["So."] * 2)
    status = measure(check(pattern=r"^(a|aa)+$"), outcome).status
    assert status.tuned is None
    assert status.omitted
    assert status.omitted.startswith("its pattern took longer than 1 s for an answer of 101 characters")


def test_a_pattern_that_only_pythons_own_engine_knows_is_no_spec() -> None:
    spec = CheckSpec.model_construct(name="Mine", pattern="(", expect="Match")
    with pytest.raises(StageError, match=r"spec\.evaluation\.checks\[Mine\]\.pattern"):
        checks_of([spec], {})


@pytest.mark.parametrize("text", ["a" * 3_000_000, "\x1b[31m" * 500_000, "\x00" * 1_000_000, "[" * 1_000_000])
def test_megabytes_are_checked_like_any_answer(text: str) -> None:
    for fields in ({"pattern": r"^\w+\.$"}, {"format": "JSON"}, {"terms": ["swindle"]}):
        assert not passes(check(**fields), text)


def test_documents_are_checked_by_nobody() -> None:
    assert measure(check(format="JSON"), documents()).status.omitted == "documents are not answered in words"
