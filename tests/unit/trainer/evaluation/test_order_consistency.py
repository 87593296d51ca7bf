"""Options in another order: what the rows become, and what is made of a model's two choices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.held_out import ChatHeldOut, MultipleChoiceHeldOut
from finetune_api.model import ModelSpec
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from finetune_trainer.data.example import Example, Message
from finetune_trainer.data.formats.multiple_choice import parse
from finetune_trainer.evaluation.measure import Measured, measure
from finetune_trainer.evaluation.metrics import METRICS, choosers_in_other_order, groups_of, metrics_of
from finetune_trainer.evaluation.other_order import in_other_order, questions_in_other_order
from finetune_trainer.evaluation.outcome import Agreement, Outcome, Scores, Side
from finetune_trainer.evaluation.questions import Group, Question, make_questions
from tokenizer_kinds import CHATS, make_tokenizer

ROWS = MultipleChoiceHeldOut(source="pvc://data/rows")
TEXTS = ("tea", "oil", "milk", "honey")
AGREEMENT = Agreement(checked=1, different=0, missed=0, settled=0, changed=0, way="SharedPrompts")
NAMES = ("OrderConsistency", "LetterOrderConsistency")


def row(number: int, texts: tuple[str, ...] = TEXTS) -> Example:
    right = "ABCD"[number % len(texts)]
    options = dict(zip("ABCD", texts, strict=False))
    return parse({"question": f"Which {number}?", "options": options, "answer_idx": right}, ROWS)


EXAMPLES = [row(number) for number in range(40)]


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    kind = CHATS["ChatML"]
    return read_chat_format(make_tokenizer("byte-level BPE", kind), ModelSpec(source="pvc://a/model"), None)


def texts_of(example: Example) -> list[str]:
    assert example.choices
    return [option.text for option in example.choices.options]


def test_in_another_order_every_text_has_another_letter_and_the_right_one_stays_right() -> None:
    for example in EXAMPLES:
        other = in_other_order(example, ROWS)
        assert example.choices
        assert other.choices
        assert all(one != another for one, another in zip(texts_of(example), texts_of(other), strict=True))
        assert sorted(texts_of(example)) == sorted(texts_of(other))
        assert texts_of(other)[other.choices.right] == texts_of(example)[example.choices.right]
        assert [option.letter for option in other.choices.options] == list("ABCD")


def test_the_other_order_is_asked_as_a_row_of_that_order_would_be() -> None:
    for example in EXAMPLES[:8]:
        other = in_other_order(example, ROWS)
        assert other.choices
        options = dict(zip("ABCD", texts_of(other), strict=True))
        fresh = parse(
            {"question": example.question, "options": options, "answer_idx": "ABCD"[other.choices.right]}, ROWS
        )
        assert (other.messages, other.choices) == (fresh.messages, fresh.choices)
        assert other.sha256 == example.sha256


def test_what_stands_before_the_question_stays() -> None:
    with_system = replace(EXAMPLES[0], messages=(Message("system", "Be brief."), *EXAMPLES[0].messages))
    assert in_other_order(with_system, ROWS).messages[0] == Message("system", "Be brief.")


def test_the_other_order_is_the_same_in_each_evaluation_and_moves_by_all_numbers_of_places() -> None:
    assert [in_other_order(one, ROWS) for one in EXAMPLES] == [in_other_order(one, ROWS) for one in EXAMPLES]
    moves = Counter(texts_of(in_other_order(one, ROWS)).index("tea") for one in EXAMPLES)
    assert set(moves) == {1, 2, 3}


def test_two_options_change_places() -> None:
    assert texts_of(in_other_order(row(0, ("tea", "oil")), ROWS)) == ["oil", "tea"]


def test_only_its_metrics_ask_for_another_order() -> None:
    assert choosers_in_other_order(metrics_of(["Accuracy", "LetterAccuracy", "Perplexity"])) == []
    assert [one.name for one in choosers_in_other_order(metrics_of(NAMES))] == ["Accuracy", "LetterAccuracy"]
    assert groups_of(metrics_of(["OrderConsistency"])) == {Group.RESPONSES}
    assert groups_of(metrics_of(["LetterOrderConsistency"])) == {Group.RESPONSES, Group.KEYS}


def test_rows_without_options_have_no_other_order(chat: ChatFormat) -> None:
    rows = ChatHeldOut(source="pvc://data/rows")
    assert questions_in_other_order([Example()], rows, chat, {Group.RESPONSES}, None) == []


def by_text(text: str) -> Any:
    return lambda question: [text in option.text for option in question.choices.options].index(True)


def outcome_of(chat: ChatFormat, choose: Any, context: int | None = None) -> Outcome:
    """Rows in both orders, and a model that chooses by a rule."""

    def side(questions: list[Question]) -> Side:
        def values(question: Question) -> list[list[float]]:
            chosen = choose(question)
            return [
                [-1.0 if index == chosen else -2.0] * len(ids)
                for group in (question.responses, question.keys)
                for index, ids in enumerate(group)
            ]

        return Side(Scores([values(question) for question in questions], AGREEMENT), [])

    groups = {Group.RESPONSES, Group.KEYS}
    own = make_questions(EXAMPLES, chat, groups)
    other = questions_in_other_order(EXAMPLES, ROWS, chat, groups, context)
    reordered = Outcome(EXAMPLES, other, None, side(other), 0.0)
    return Outcome(EXAMPLES, own, None, side(own), 0.0, reordered=reordered)


def measured(name: str, outcome: Outcome) -> Measured:
    return measure(METRICS[name], outcome)


@pytest.mark.parametrize("name", NAMES)
def test_who_goes_by_letters_never_chooses_the_same_text_and_who_goes_by_texts_always_does(
    chat: ChatFormat, name: str
) -> None:
    letters, texts = outcome_of(chat, lambda question: 0), outcome_of(chat, by_text("oil"))
    assert measured(name, letters).status.tuned.value == "0"  # type: ignore[union-attr]
    assert measured(name, texts).status.tuned.value == "1"  # type: ignore[union-attr]


def test_who_knows_the_answer_is_right_in_both_orders_and_the_report_says_so(chat: ChatFormat) -> None:
    found = measured("OrderConsistency", outcome_of(chat, lambda question: question.right))
    details = found.metric.details(list(found.rows["tuned"].values()))
    assert (details["ownOrder"]["value"], details["otherOrder"]["value"]) == ("1", "1")
    first = found.metric.document(EXAMPLES[0], found.rows["tuned"][0])  # type: ignore[arg-type]
    other = in_other_order(EXAMPLES[0], ROWS)
    assert other.choices
    assert first == {"same": True, "otherOrder": {"option": "ABCD"[other.choices.right], "right": True}}


def test_the_accuracy_in_the_other_order_is_counted_there(chat: ChatFormat) -> None:
    """Always A: right where the right option is moved to A."""
    found = measured("OrderConsistency", outcome_of(chat, lambda question: 0))
    expected = sum(in_other_order(one, ROWS).choices.right == 0 for one in EXAMPLES) / len(EXAMPLES)  # type: ignore[union-attr]
    details = found.metric.details(list(found.rows["tuned"].values()))
    assert float(details["otherOrder"]["value"]) == pytest.approx(expected, abs=1e-6)
    assert float(details["ownOrder"]["value"]) == 0.25


def test_rows_whose_other_order_does_not_fit_the_context_are_left_out_and_counted(chat: ChatFormat) -> None:
    sizes = sorted(
        one.size.prompt + one.size.continuation
        for one in questions_in_other_order(EXAMPLES, ROWS, chat, {Group.RESPONSES, Group.KEYS}, None)
    )
    outcome = outcome_of(chat, lambda question: question.right, context=sizes[0])
    assert outcome.reordered
    fitting = len(outcome.reordered.questions)
    assert 0 < fitting < len(EXAMPLES)
    assert measured("OrderConsistency", outcome).status.examples == fitting
    nothing = measured("OrderConsistency", replace(outcome, reordered=None)).status
    assert nothing.omitted
    assert "longer than the model's context" in nothing.omitted
