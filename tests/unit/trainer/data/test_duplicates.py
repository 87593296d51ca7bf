"""Which rows repeat another: MinHash against brute force over the sets themselves."""

from __future__ import annotations

import random
import re
from itertools import combinations

import pytest

from finetune_trainer.data.duplicates import EXACT, NEAR, Compared, Duplicates, Overlap
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.similar_texts import SimilarTexts, jaccard, shingles

WORDS = [f"word{number}" for number in range(400)]


def chat(question: str, answer: str = "Yes.", system: str = "", where: str = "") -> Example:
    turns = (Message("user", question), Message("assistant", answer))
    messages = (Message("system", system), *turns) if system else turns
    return Example(messages=messages, question=question, sha256=f"{system}/{question}/{answer}", where=where)


def found(rows: list[Example], mode: str = "Near") -> list[str | None]:
    duplicates = Duplicates(mode)  # type: ignore[arg-type]
    repeats = [duplicates.find(Compared(row), number) for number, row in enumerate(rows)]
    return [repeat and repeat.kind for repeat in repeats]


def sets_of_words(text: str) -> set[tuple[str, ...]]:
    """The definition, written once more: word 5-grams as tuples of strings."""
    words = re.findall(r"\w+|[^\w\s]+", text)
    size = min(5, len(words))
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def brute_jaccard(one: str, other: str) -> float:
    first, second = sets_of_words(one), sets_of_words(other)
    return len(first & second) / len(first | second)


def varied_texts(count: int) -> list[str]:
    """Texts, and of each one some with more and more words changed, so that all similarities occur."""
    chance = random.Random(3)
    texts = []
    for _ in range(count // 6):
        words = chance.choices(WORDS, k=chance.randint(30, 120))
        texts.append(" ".join(words))
        for _ in range(5):
            words = [chance.choice(WORDS) if chance.random() < 0.012 else word for word in words]
            texts.append(" ".join(words))
    return texts


def test_the_similarity_is_the_one_over_sets_of_words() -> None:
    texts = varied_texts(60)
    for one, other in combinations(texts, 2):
        assert jaccard(shingles(one), shingles(other)) == pytest.approx(brute_jaccard(one, other), abs=1e-12)


def test_nearly_all_similar_pairs_are_found_and_no_other() -> None:
    texts = varied_texts(420)
    grams = [sets_of_words(text) for text in texts]
    pairs_of_all = combinations(range(len(texts)), 2)
    true = {(a, b) for a, b in pairs_of_all if len(grams[a] & grams[b]) / len(grams[a] | grams[b]) >= 0.8}
    similar, pairs = SimilarTexts(), set()
    for number, text in enumerate(texts):
        pairs |= {(earlier, number) for earlier in similar.all_like(shingles(text))}
        similar.add(number, shingles(text))
    assert len(true) > 300
    assert pairs <= true
    assert len(pairs) >= 0.97 * len(true)


def test_the_first_of_near_repeats_stays_and_what_drifted_from_it_counts_from_it_alone() -> None:
    chance = random.Random(5)
    words = chance.choices(WORDS, k=80)
    rows, kept = [], []
    for step in range(12):  # each a word away from the last
        rows.append(chat(" ".join(words)))
        words = [*words]
        words[step * 6] = "changed"
    for row in rows:
        if all(brute_jaccard(row.question, other.question) < 0.8 for other in kept):
            kept.append(row)
    assert 1 < len(kept) < len(rows)
    assert [row for row, kind in zip(rows, found(rows), strict=True) if kind is None] == kept


@pytest.mark.parametrize(
    "other",
    ["WHERE does  it\nlive, by the café?", "where does it live, by the cafe\u0301?"],
    ids=["case and white space", "another encoding of an accent"],
)
def test_exact_repeats_may_differ_in_case_white_space_and_encoding(other: str) -> None:
    rows = [chat("Where does it live, by the café?"), chat(other)]
    assert found(rows, "Exact") == [None, EXACT]
    assert found(rows, "None") == [None, None]


def test_rows_that_answer_otherwise_are_kept() -> None:
    long = "Is this the very same long question, word for word, as the one that stands before it in the file?"
    assert found([chat(long, "Yes."), chat(long, "No.")]) == [None, None]
    assert found(
        [chat(long, "It is, as far as we can tell by now."), chat(long + "!", "It is, as far as we can tell by now.")]
    ) == [
        None,
        NEAR,
    ]


def test_near_repeats_are_left_alone_where_only_exact_ones_are_to_go() -> None:
    long = " ".join(WORDS[:60])
    assert found([chat(long), chat(f"{long} more")], "Exact") == [None, None]
    assert found([chat(long), chat(f"{long} more")], "Near") == [None, NEAR]


def test_a_repeat_names_the_row_that_it_repeats() -> None:
    long = " ".join(WORDS[:60])
    duplicates = Duplicates("Near")
    rows = (chat("Who?"), chat(long), chat("Why?"), chat(f"{long} more"), chat("WHO?"))
    repeats = [duplicates.find(Compared(row), 10 + number) for number, row in enumerate(rows)]
    assert [repeat and (repeat.kind, repeat.of) for repeat in repeats] == [None, None, None, (NEAR, 11), (EXACT, 10)]


def test_a_system_prompt_and_tools_are_not_what_makes_rows_alike() -> None:
    rows = [chat(f"What is {number} times three?", str(3 * number), " ".join(WORDS)) for number in range(5)]
    assert found(rows) == [None] * 5


def test_rows_that_differ_in_their_system_prompt_alone_are_near_repeats_and_no_exact_ones() -> None:
    rows = [chat(" ".join(WORDS[:40]), system="Be brief."), chat(" ".join(WORDS[:40]), system="Be long.")]
    assert found(rows, "Exact") == [None, None]
    assert found(rows) == [None, NEAR]


def test_signs_count_as_words() -> None:
    assert found([chat("What is 7 + 1 ?", "8"), chat("What is 7 - 1 ?", "8")]) == [None, None]


def test_scripts_without_spaces_are_compared_sign_by_sign() -> None:
    text = "患者は三日前から高熱と激しい頭痛を訴えて来院した最も適切な治療はどれか次の中から一つ選べ"
    assert found([chat(text), chat(f"{text}よ")]) == [None, NEAR]
    assert found([chat(text), chat(text[::-1])]) == [None, None]


def test_the_same_question_with_other_options_is_another_row() -> None:
    def asked(*options: str) -> Example:
        choices = Choices(tuple(Choice("AB"[place], text, text) for place, text in enumerate(options)), 0)
        return Example(
            messages=(Message("user", "/".join(options)), Message("assistant", options[0])),
            choices=choices,
            question="Which?",
        )

    assert found([asked("one", "two"), asked("one", "three"), asked("one", "two")]) == [None, None, EXACT]


def test_rows_that_share_three_quarters_of_their_words_are_all_kept() -> None:
    shared = " ".join(WORDS[:90])
    rows = [chat(f"{shared} {' '.join(f'own{number}x{place}' for place in range(26))}") for number in range(300)]
    assert found(rows) == [None] * 300


def test_held_out_rows_that_training_rows_ask_are_counted_exactly_and_nearly() -> None:
    long = " ".join(WORDS[:50])
    held_out = [
        chat("Who is it?", where="test 1"),
        chat(long, where="test 2"),
        chat("Nobody asks this.", where="test 3"),
    ]
    overlap = Overlap(held_out)
    for row in (
        chat(" who IS it?", "Me.", where="train 1"),
        chat(f"{long} again", where="train 2"),
        chat("Else?", where="train 3"),
    ):
        overlap.see(Compared(row))
    assert (sorted(overlap.exact), sorted(overlap.near)) == ([0], [0, 1])
    assert overlap.pairs() == ["test 1 and train 1", "test 2 and train 2"]


@pytest.mark.parametrize(
    ("training", "same"), [("abc", True), ("cabbac", True), ("ab", False), ("abcd", False), ("", False)]
)
def test_the_same_rows_in_whatever_order_are_noticed(training: str, same: bool) -> None:
    overlap = Overlap([chat(letter) for letter in "abc"])
    for letter in training:
        overlap.see(Compared(chat(letter)))
    assert overlap.are_the_same_rows is same
