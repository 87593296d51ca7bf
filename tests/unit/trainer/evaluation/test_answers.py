"""How a generated answer is read: it names an option, one that isn't there, or none."""

from __future__ import annotations

import pytest

from finetune_api.rules import fill
from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.answers import Names, read_answer

SENTENCE = "The correct answer is {answer}."
LETTER = "{letter}"
BOTH = "{letter}: {answer}"
JSON = '{{"answer": "{answer}"}}'
JSON_BOTH = '{{"letter": "{letter}", "text": "{answer}"}}'

FEVERS = {"A": "amber fever", "B": "river rash", "C": "ache (dull)", "D": "amber fever with rash"}
DRUGS = {"A": "Ampicillin", "B": "Ceftriaxone", "C": "Doxycycline", "D": "Nitrofurantoin"}
FIVE = {**DRUGS, "D": "Ofloxacin", "E": "Nitrofurantoin"}
BLOOD = {"A": "O", "B": "A", "C": "B", "D": "AB"}
NUMBERS = {"A": "1", "B": "10", "C": "100", "D": "2.5"}
NUMBERED = {"1": "2", "2": "3", "3": "1", "4": "12"}
TEN = {str(number): f"place {number}" for number in range(1, 11)}
CYRILLIC = {"А": "кора", "Б": "река", "В": "Straße"}
NEAR = {"A": "PT", "B": "Pt", "C": "p_t"}
EQUAL = {"A": "oak", "B": "elm", "C": "oak"}
ORGANS = {"A": "The heart", "B": "A lung", "C": "An eye", "D": "Skin"}
TWINS = {"A": "The heart", "B": "A heart", "C": "Skin"}
LONG = {"A": "Refer him to a clinic. Then wait.", "B": "Wait", "C": "Tell the family"}
WORDS = {"opa": "old barn", "opb": "river bank"}


def choices_of(options: dict[str, str], template: str, right: int = 0) -> Choices:
    return Choices(
        tuple(
            Choice(letter, text, fill(template, answer=text, letter=letter).strip()) for letter, text in options.items()
        ),
        right,
    )


def letter_of(text: str, options: dict[str, str], template: str, cut: bool = False) -> str:
    """The letter that an answer names, '?' for one that isn't there, '-' for none."""
    found = read_answer(text, choices_of(options, template), template, cut)
    if found.names is Names.OPTION:
        assert found.option is not None
        return list(options)[found.option]
    assert found.option is None
    return "?" if found.names is Names.NO_SUCH_OPTION else "-"


CASES = [
    # The template itself, and near it.
    (FEVERS, SENTENCE, "The correct answer is amber fever.", "A"),
    (FEVERS, SENTENCE, "the correct answer is  River Rash", "B"),
    (FEVERS, SENTENCE, "The correct answer is B.", "B"),
    (FEVERS, SENTENCE, "The correct answer is b", "B"),
    (FEVERS, SENTENCE, "The correct answer is B: river rash.", "B"),
    (FEVERS, SENTENCE, "The correct answer is B. river rash.", "B"),
    (FEVERS, SENTENCE, "The correct answer is (B) river rash", "B"),
    (FEVERS, SENTENCE, "The correct answer is: B", "B"),
    (FEVERS, SENTENCE, "The correct answer is option B.", "B"),
    (FEVERS, SENTENCE, "The correct answer is river rash. It is known for its colour.", "B"),
    (FEVERS, SENTENCE, "The correct answer is river rash.\n\nIt is known for its colour.", "B"),
    (FEVERS, SENTENCE, "The correct answer is river rash, which amber fever is not.", "B"),
    (FEVERS, SENTENCE, "The correct answer is river rash because of its colour.", "B"),
    (FEVERS, SENTENCE, "The correct answer is B because it is red.", "B"),
    (FEVERS, SENTENCE, "The correct answer is ache (dull).", "C"),
    # A longer option that contains a shorter.
    (FEVERS, SENTENCE, "The correct answer is amber fever with rash.", "D"),
    (FEVERS, SENTENCE, "The correct answer is amber fever with rash, since it itches.", "D"),
    (FEVERS, SENTENCE, "The correct answer is amber fever with chills.", "?"),
    # One that isn't there.
    (DRUGS, SENTENCE, "The correct answer is E.", "?"),
    (FIVE, SENTENCE, "The correct answer is E.", "E"),
    (DRUGS, SENTENCE, "The correct answer is Penicillin.", "?"),
    (DRUGS, SENTENCE, "The correct answer is F: Penicillin.", "?"),
    (DRUGS, SENTENCE, "The correct answer is B: Penicillin.", "?"),
    (DRUGS, SENTENCE, "The correct answer is B: Ampicillin.", "-"),  # two, and both are there
    (DRUGS, SENTENCE, "A. Nitrofurantoin\n\nIt is safe.", "-"),
    (DRUGS, SENTENCE, "A. Ampicillin\n\nThe correct answer is D. Ampicillin.", "-"),
    (DRUGS, SENTENCE, "F: Penicillin", "?"),
    (DRUGS, SENTENCE, "**F. Penicillin**", "?"),
    # Markup, quotes, other words.
    (FIVE, SENTENCE, "**E: Nitrofurantoin**", "E"),
    (DRUGS, SENTENCE, "**E: Nitrofurantoin**", "D"),
    (DRUGS, SENTENCE, "**D: Nitrofurantoin**", "D"),
    (DRUGS, SENTENCE, "**Answer:** (B)", "B"),
    (DRUGS, SENTENCE, "Answer: (B)", "B"),
    (DRUGS, SENTENCE, "Answer: B. Ceftriaxone", "B"),
    (DRUGS, SENTENCE, "The correct answer is **B) Ceftriaxone**.", "B"),
    (DRUGS, SENTENCE, 'The correct answer is "Ceftriaxone".', "B"),
    (DRUGS, SENTENCE, "The correct answer is “Ceftriaxone”.", "B"),
    (DRUGS, SENTENCE, "The correct answer is `ceftriaxone`", "B"),
    (DRUGS, SENTENCE, "### Answer\n\nThe correct answer is _Ceftriaxone_.", "B"),
    (DRUGS, SENTENCE, r"The answer is \boxed{\text{B}}.", "B"),
    (DRUGS, SENTENCE, r"$\boxed{B}$", "B"),
    (DRUGS, SENTENCE, "B", "B"),
    (DRUGS, SENTENCE, "B.", "B"),
    (DRUGS, SENTENCE, "(B)", "B"),
    (DRUGS, SENTENCE, "B) Ceftriaxone", "B"),
    (DRUGS, SENTENCE, "B - Ceftriaxone", "B"),
    (DRUGS, SENTENCE, "Ceftriaxone", "B"),
    (DRUGS, SENTENCE, "Ceftriaxone is the correct answer.", "B"),
    (DRUGS, SENTENCE, "Option B is correct.", "B"),
    (DRUGS, SENTENCE, "B is the best answer here.", "B"),
    (DRUGS, SENTENCE, "I would choose Doxycycline here.", "C"),
    (DRUGS, SENTENCE, "In pregnancy the best choice is Doxycycline.", "C"),
    (DRUGS, SENTENCE, "She should be given Doxycycline for a week.", "C"),
    (DRUGS, SENTENCE, "Let me think. Ampicillin is old, so the answer is B.", "B"),
    (DRUGS, SENTENCE, "### Answer\n\nB", "B"),
    (DRUGS, SENTENCE, "Correct: B", "B"),
    (DRUGS, SENTENCE, "Réponse : B", "B"),
    (DRUGS, SENTENCE, "Diagnosis: unclear\nTreatment: Doxycycline", "C"),
    (DRUGS, SENTENCE, "The correct answer is (Ceftriaxone).", "B"),
    (DRUGS, SENTENCE, "The correct answer is Ceftriaxone (B).", "B"),
    (DRUGS, SENTENCE, "The correct answer is Ceftriaxone (A).", "-"),
    (DRUGS, SENTENCE, "The correct answer is B。", "B"),
    (DRUGS, LETTER, "The answer is B", "B"),
    (DRUGS, LETTER, "Ceftriaxone", "B"),
    (FEVERS, SENTENCE, "The correct answer is the river rash.", "B"),
    (FEVERS, SENTENCE, "The correct answer is a river rash.", "B"),
    (FEVERS, SENTENCE, "The correct answer is a blue rash.", "?"),
    # A key and its text, and more about it.
    (DRUGS, SENTENCE, "A. Ampicillin is a penicillin that is used in pregnancy.", "A"),
    (DRUGS, SENTENCE, "The correct answer is D. Nitrofurantoin 100 mg twice daily.", "D"),
    (DRUGS, SENTENCE, "A. Ampicillin is incorrect.", "-"),
    (DRUGS, SENTENCE, "Ampicillin is wrong.", "-"),
    (DRUGS, SENTENCE, "A. Ampicillins are old.", "?"),
    (FEVERS, SENTENCE, "A. amber fever with rash is rare.", "?"),
    (FEVERS, SENTENCE, "D. amber fever with rash and chills", "D"),
    # How sure somebody is.
    (DRUGS, SENTENCE, "The answer is likely D.", "D"),
    (DRUGS, SENTENCE, "The correct answer is most likely Ceftriaxone.", "B"),
    (DRUGS, SENTENCE, "The correct answer is probably the Ceftriaxone.", "B"),
    (DRUGS, SENTENCE, "The correct answer is indeed B.", "B"),
    (DRUGS, SENTENCE, "The correct answer is, therefore, B.", "B"),
    (DRUGS, SENTENCE, "The correct answer is likely to be Penicillin.", "?"),
    (DRUGS, SENTENCE, "The correct answer to this question is D.", "D"),
    (DRUGS, SENTENCE, "The most appropriate treatment is option D.", "D"),
    (DRUGS, SENTENCE, "The best treatment for this patient would be D.", "D"),
    (DRUGS, SENTENCE, "The most common cause is a virus.", "-"),
    (DRUGS, SENTENCE, "The best treatment is not D.", "-"),
    (DRUGS, SENTENCE, "The most common drug is A. The correct answer is B.", "B"),
    # Articles.
    (ORGANS, SENTENCE, "The correct answer is heart.", "A"),
    (ORGANS, SENTENCE, "The correct answer is the lung.", "B"),
    (ORGANS, SENTENCE, "The correct answer is the skin.", "D"),
    (ORGANS, SENTENCE, "Eye", "C"),
    (ORGANS, SENTENCE, "The correct answer is the hand.", "?"),
    (TWINS, SENTENCE, "The correct answer is heart.", "?"),
    (TWINS, SENTENCE, "The correct answer is a heart.", "B"),
    # None, or two.
    (DRUGS, SENTENCE, "Ceftriaxone (A)", "-"),
    (DRUGS, SENTENCE, "Ceftriaxone (A), which is old.", "-"),
    (DRUGS, SENTENCE, "The correct answer is the fourth option.", "-"),
    (DRUGS, SENTENCE, "A\nB\nC\nD", "-"),
    (DRUGS, SENTENCE, "B\nB\nB", "B"),
    (DRUGS, LETTER, "A\n\nB\n\nC", "-"),
    (DRUGS, SENTENCE, "The correct answer is both A and B.", "-"),
    (FEVERS, SENTENCE, "It may be amber fever or river rash.", "-"),
    (DRUGS, SENTENCE, "The correct answer is A or B.", "-"),
    (DRUGS, SENTENCE, "The correct answer is Ampicillin and Ceftriaxone.", "-"),
    (DRUGS, SENTENCE, "A, C", "-"),
    (DRUGS, SENTENCE, "It is not Doxycycline.", "-"),
    (DRUGS, SENTENCE, "I don't know.", "-"),
    (DRUGS, SENTENCE, "The correct answer is not listed.", "-"),
    (DRUGS, SENTENCE, "The correct answer is none of the above.", "-"),
    ({**DRUGS, "D": "None of the above"}, SENTENCE, "The correct answer is none of the above.", "D"),
    (DRUGS, SENTENCE, "The correct answer is", "-"),
    (DRUGS, SENTENCE, "A 26-year-old woman has a fever.", "-"),
    (DRUGS, SENTENCE, "", "-"),
    (DRUGS, SENTENCE, "…", "-"),
    (DRUGS, SENTENCE, "<think> Ampicillin is old", "-"),
    # The question's list again.
    (DRUGS, SENTENCE, "A. Ampicillin\nB. Ceftriaxone\nC. Doxycycline\nD. Nitrofurantoin", "-"),
    (DRUGS, SENTENCE, "Options:\nA: Ampicillin\nB: Ceftriaxone", "-"),
    (DRUGS, SENTENCE, "A. Ampicillin, B. Ceftriaxone, C. Doxycycline", "-"),
    (DRUGS, SENTENCE, "- Ampicillin\n- Ceftriaxone\n- Doxycycline", "-"),
    (DRUGS, SENTENCE, "The correct answer is A. Ampicillin, B. Ceftriaxone.", "-"),
    (DRUGS, SENTENCE, "A. Ampicillin\nB. Ceftriaxone\n\nThe correct answer is B.", "B"),
    (DRUGS, SENTENCE, "A. Ampicillin\nB. Ceftriaxone\n\nThe correct answer is:\nB. Ceftriaxone", "B"),
    (DRUGS, SENTENCE, "B. Ceftriaxone\n\nIt is safe, which A is not.", "B"),
    # Options that look like letters: the text is meant where the template asks for it.
    (BLOOD, SENTENCE, "The correct answer is A.", "B"),
    (BLOOD, SENTENCE, "The correct answer is AB.", "D"),
    (BLOOD, SENTENCE, "The correct answer is O.", "A"),
    (BLOOD, SENTENCE, "The correct answer is D.", "D"),
    (BLOOD, SENTENCE, "The correct answer is A: O.", "A"),
    (BLOOD, SENTENCE, "A", "B"),
    (BLOOD, SENTENCE, "Option A", "A"),
    (BLOOD, LETTER, "A", "A"),
    (BLOOD, LETTER, "A.", "A"),
    (BLOOD, BOTH, "A: O", "A"),
    (BLOOD, BOTH, "B: A", "B"),
    # Numbers.
    (NUMBERS, SENTENCE, "The correct answer is 10.", "B"),
    (NUMBERS, SENTENCE, "The correct answer is 1.", "A"),
    (NUMBERS, SENTENCE, "The correct answer is 2.5.", "D"),
    (NUMBERS, SENTENCE, "The correct answer is 2.", "?"),
    (NUMBERS, SENTENCE, "The correct answer is 10.5.", "?"),
    (NUMBERS, SENTENCE, "The correct answer is 1,000.", "?"),
    (NUMBERED, SENTENCE, "The correct answer is 2.", "1"),
    (NUMBERED, SENTENCE, "The correct answer is 4.", "4"),
    (NUMBERED, SENTENCE, "The correct answer is 12.", "4"),
    (NUMBERED, LETTER, "2", "2"),
    (TEN, LETTER, "10", "10"),
    (TEN, LETTER, "1", "1"),
    (TEN, LETTER, "11", "?"),
    (TEN, "Answer: {letter}", "Answer: 10. place 10", "10"),
    # Other templates.
    (FEVERS, BOTH, "A: amber fever", "A"),
    (FEVERS, BOTH, "A: river rash", "-"),
    (FEVERS, BOTH, "G: grey fever", "?"),
    (FEVERS, "{answer}", "river rash", "B"),
    (FEVERS, "{answer}", "blue fever", "?"),
    (FEVERS, "{answer}", "I don't know.", "-"),
    (FEVERS, "{answer}", "This is a hard question and I would have to see the patient myself to tell.", "-"),
    (FEVERS, LETTER, "E", "?"),
    (FEVERS, "Answer: {letter}", "Answer: B", "B"),
    (FEVERS, "Answer: {letter}", "Answer: F", "?"),
    (FEVERS, "Answer: {letter}", "B", "B"),
    (FEVERS, "<answer>{letter}</answer>", "<answer>C</answer>", "C"),
    (FEVERS, "<answer>{letter}</answer>", "<answer>H</answer>", "?"),
    (DRUGS, JSON, '{"answer": "Ceftriaxone"}', "B"),
    (DRUGS, JSON, '{"answer":"Ceftriaxone"}', "B"),
    (DRUGS, JSON, '```json\n{"answer": "Ceftriaxone"}\n```', "B"),
    (DRUGS, JSON, '{"answer": "B"}', "B"),
    (DRUGS, JSON, '{"answer": "Penicillin"}', "?"),
    (DRUGS, JSON_BOTH, '{"letter": "B", "text": "Ceftriaxone"}', "B"),
    (DRUGS, JSON_BOTH, '{"letter": "B", "text": "Ampicillin"}', "-"),
    (DRUGS, JSON_BOTH, '{"letter": "F", "text": "Penicillin"}', "?"),
    # Letters and texts of other kinds.
    (CYRILLIC, SENTENCE, "The correct answer is Б.", "Б"),
    (CYRILLIC, SENTENCE, "The correct answer is Г.", "?"),
    (CYRILLIC, SENTENCE, "The correct answer is РЕКА.", "Б"),
    (CYRILLIC, SENTENCE, "The correct answer is strasse.", "В"),
    ({"A": "café", "B": "thé"}, SENTENCE, "The correct answer is cafe\u0301.", "A"),
    ({"A": "x²", "B": "x2"}, SENTENCE, "The correct answer is x².", "A"),
    ({"A": "x²", "B": "x2"}, SENTENCE, "The correct answer is x2.", "B"),
    (NEAR, SENTENCE, "The correct answer is Pt.", "B"),
    (NEAR, SENTENCE, "The correct answer is p_t.", "C"),
    (EQUAL, SENTENCE, "The correct answer is oak.", "A"),
    (EQUAL, SENTENCE, "The correct answer is C.", "C"),
    (LONG, SENTENCE, "The correct answer is Refer him to a clinic. Then wait.", "A"),
    (LONG, SENTENCE, "The correct answer is Wait. Refer him later.", "B"),
    (WORDS, SENTENCE, "The correct answer is opb.", "opb"),
    (WORDS, SENTENCE, "opa: old barn", "opa"),
]


@pytest.mark.parametrize(("options", "template", "text", "expected"), CASES)
def test_an_answer_names_an_option_one_that_is_not_there_or_none(
    options: dict[str, str], template: str, text: str, expected: str
) -> None:
    assert letter_of(text, options, template) == expected


@pytest.mark.parametrize(
    ("options", "template", "text", "expected"),
    [
        (FEVERS, SENTENCE, "The correct", "-"),
        (FEVERS, SENTENCE, "The correct answer is river", "-"),
        (FEVERS, SENTENCE, "The correct answer is amber fever", "-"),  # it may go on with rash
        (FEVERS, SENTENCE, "The correct answer is amber fever.", "A"),
        (FEVERS, SENTENCE, "The correct answer is river rash", "B"),
        (FEVERS, SENTENCE, "The correct answer is river rash. It is known for", "B"),
        (FEVERS, SENTENCE, "The correct answer is B. It is known for", "B"),
        (FEVERS, SENTENCE, "The correct answer is B", "-"),
        (DRUGS, SENTENCE, "The correct answer is Penic", "-"),
        (DRUGS, SENTENCE, "The correct answer is Penicillin. It is kn", "?"),
        (DRUGS, SENTENCE, "F: Penicillin\n\nIt is kn", "?"),
        (FEVERS, SENTENCE, "B: river", "-"),
        (DRUGS, SENTENCE, "A. Ampicillin\nB. Ceftriaxone\nC. Doxy", "-"),
        (DRUGS, SENTENCE, "A. Ampicillin\nB. Cef", "-"),
        (DRUGS, SENTENCE, "A. Ampicillin\n\nThe correct answer is:\nB. Ceftri", "-"),
        (DRUGS, SENTENCE, "A. Ampicillin\n\nThe correct answer is:", "-"),
        (NUMBERS, SENTENCE, "The correct answer is 1", "-"),
        (NUMBERS, SENTENCE, "The correct answer is 100", "C"),
        (TEN, LETTER, "1", "-"),
        (DRUGS, JSON, '{"answer": "Ceftri', "-"),
        (DRUGS, JSON, '{"answer": "Ceftriaxone', "B"),
        (DRUGS, SENTENCE, "Let me look at the options one by one:", "-"),
    ],
)
def test_a_cut_answer_names_what_it_had_said_to_the_end(
    options: dict[str, str], template: str, text: str, expected: str
) -> None:
    assert letter_of(text, options, template, cut=True) == expected


@pytest.mark.parametrize(
    "template", [SENTENCE, LETTER, BOTH, JSON, JSON_BOTH, "{answer}", "Answer: {letter}", "So:\n{answer}"]
)
@pytest.mark.parametrize("options", [FEVERS, DRUGS, FIVE, BLOOD, NUMBERS, NUMBERED, TEN, CYRILLIC, NEAR, LONG, WORDS])
def test_each_options_own_response_names_it(options: dict[str, str], template: str) -> None:
    for choice in choices_of(options, template).options:
        assert letter_of(choice.response, options, template) == choice.letter
