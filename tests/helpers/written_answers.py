"""Outcomes of an evaluation whose models wrote what a test says."""

from __future__ import annotations

from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.evaluation.answers import read_answer
from finetune_trainer.evaluation.outcome import Agreement, Generated, Outcome, Scores, Side
from finetune_trainer.evaluation.questions import Question

TEMPLATE = "The correct answer is {answer}."
PLACES = {"A": "old barn", "B": "river bank", "C": "pine wood", "D": "stone wall", "E": "sea shore"}
AGREEMENT = Agreement(0, 0, 0, 0, 0, "SharedPrompts")


def with_options(answers: list[tuple[str, bool]], others: list[tuple[str, bool]] | None = None) -> Outcome:
    """Rows that ask for a place, and what the tuned model answers; ``others`` are the base model's answers."""
    options = tuple(Choice(letter, text, TEMPLATE.format(answer=text)) for letter, text in PLACES.items())
    rows = [Choices(options, number % len(options)) for number in range(len(answers))]
    examples = [
        Example(
            (Message("user", "Where does the heron live?"), Message("assistant", one.options[one.right].response)),
            one,
            sha256=f"{number:064x}",
        )
        for number, one in enumerate(rows)
    ]
    questions = [Question([1], [[2]] * 5, [], 0, example.choices, row, example) for row, example in enumerate(examples)]

    def side(written: list[tuple[str, bool]]) -> Side:
        found = [
            Generated(text, cut, read_answer(text, row, TEMPLATE, cut))
            for row, (text, cut) in zip(rows, written, strict=True)
        ]
        return Side(Scores([[[-1.0]] * 5 for _ in rows], AGREEMENT), found)

    return Outcome(examples, questions, side(others) if others else None, side(answers), 1.0, samples=1)


def without_options(answers: list[str], responses: list[str], others: list[str] | None = None) -> Outcome:
    """Rows with a response and no options, and what the tuned model, and perhaps the base model, answers."""
    examples = [
        Example((Message("user", f"Which {n}?"), Message("assistant", text))) for n, text in enumerate(responses)
    ]
    questions = [Question([1], [[2]], [], 0, None, row, example) for row, example in enumerate(examples)]

    def side(texts: list[str]) -> Side:
        return Side(Scores([[[-1.0]]] * len(texts), AGREEMENT), [Generated(text, cut=False) for text in texts])

    return Outcome(examples, questions, side(others) if others else None, side(answers), 1.0)


def documents() -> Outcome:
    """A document, which nobody answers."""
    book = Example(text="Once upon a time.")
    return Outcome(
        [book], [Question([1], [[2]], [], 0, None, 0, book)], None, Side(Scores([[[-1.0]]], AGREEMENT), []), 1.0
    )
