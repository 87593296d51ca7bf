"""Rows of a dataset: what is accepted, and what an error says."""

from __future__ import annotations

from typing import Any

import pytest

import raw_rows
from finetune_trainer.data.example import Example, Message


def raw_row(**changes: Any) -> dict[str, Any]:
    row = {"question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "two", "answer_idx": "B"}
    return {**row, **changes}


def read(raw: object, **columns: str) -> Example:
    return raw_rows.read("MultipleChoice", raw, columns=columns)


def problem(raw: object, **columns: str) -> str:
    return raw_rows.problem("MultipleChoice", raw, columns=columns)


def options(example: Example) -> dict[str, str]:
    assert example.choices
    return {choice.letter: choice.text for choice in example.choices.options}


def right(example: Example) -> str:
    assert example.choices
    return example.choices.options[example.choices.right].letter


@pytest.mark.parametrize(
    ("value", "letters"),
    [
        ({"A": "one", "B": "two"}, "AB"),
        (["one", "two"], "AB"),
        ('{"A": "one", "B": "two"}', "AB"),
        ('["one", "two"]', "AB"),
        ([{"text": "one", "label": "A"}, {"text": "two", "label": "B"}], "AB"),
        ({"text": ["one", "two"], "label": ["A", "B"]}, "AB"),
        ({"label": ["1", "2"], "text": ["one", "two"]}, "12"),
        ([{"label": 1, "text": "one"}, {"label": 2, "text": "two"}], "12"),
        ([("A", "one"), ("B", "two")], "AB"),
    ],
)
def test_options_come_in_every_shape_that_public_datasets_have(value: object, letters: str) -> None:
    assert options(read(raw_row(options=value, answer_idx=letters[1]))) == dict(
        zip(letters, ("one", "two"), strict=True)
    )


def test_options_may_have_columns_of_their_own() -> None:
    raw = {"question": "Which?", "opa": "one", "opb": "two", "opc": "three", "opd": None, "cop": 2}
    example = read(raw, options="opa, opb, opc, opd", answer_key="cop")
    assert (options(example), right(example)) == ({"A": "one", "B": "two", "C": "three"}, "C")
    assert "column 'ope': missing" in problem(raw, options="opa,ope", answer_key="cop")


@pytest.mark.parametrize(
    ("raw", "columns", "letter"),
    [
        (
            {"ctx": "A man", "endings": ["a", "b", "c", "d"], "label": "3"},
            ("ctx", "endings", "label"),
            "D",
        ),  # HellaSwag
        ({"goal": "Boil.", "sol1": "a", "sol2": "b", "label": 1}, ("goal", "sol1,sol2", "label"), "B"),  # PIQA
        (
            {
                "question": "Where?",
                "question_concept": "punishing",
                "choices": {"label": ["A", "B", "C"], "text": ["a", "b", "c"]},
                "answerKey": "C",
            },
            ("question", "choices", "answerKey"),  # CommonsenseQA
            "C",
        ),
        (
            {"question_stem": "The sun", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
            ("question_stem", "choices", "answerKey"),  # OpenBookQA
            "B",
        ),
        (
            {"question": "?", "options": list("abcdefghij"), "answer": "I", "answer_index": 8, "cot_content": ""},
            ("question", "options", "answer"),  # MMLU-Pro
            "I",
        ),
        (
            {"question": "?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "d"},
            ("question", "distractor1,distractor2,distractor3,correct_answer", "correct_answer"),  # SciQ
            "D",
        ),
        (
            {"question": "?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 0, "exp": None},
            ("question", "opa,opb,opc,opd", "cop"),  # MedMCQA
            "A",
        ),
    ],
)
def test_rows_of_well_known_benchmarks_load_by_their_columns(
    raw: dict[str, Any], columns: tuple[str, str, str], letter: str
) -> None:
    question, named, key = columns
    example = read(raw, question=question, options=named, answer_key=key)
    assert (right(example), example.question) == (letter, raw[question])


def test_a_column_whose_name_holds_a_comma_is_a_column() -> None:
    assert options(read({**raw_row(), "a,b": ["one", "two"]}, options="a,b")) == {"A": "one", "B": "two"}


def test_a_row_of_mmlu_has_a_list_and_an_index_in_the_answer_column() -> None:
    raw = {"question": "Which?", "subject": "x", "choices": ["one", "two", "three", "four"], "answer": 1}
    assert right(read(raw, options="choices", answer_key="answer")) == "B"


@pytest.mark.parametrize("labels", [["A", "B"], ["1", "2"]])
def test_a_row_of_arc_has_labels_of_its_own(labels: list[str]) -> None:
    raw = {"question": "Which?", "choices": {"text": ["one", "two"], "label": labels}, "answerKey": labels[1]}
    example = read(raw, options="choices", answer_key="answerKey")
    assert (right(example), example.response) == (labels[1], "The correct answer is two.")


@pytest.mark.parametrize(
    ("key", "letter"),
    [("B", "B"), (" B ", "B"), ("b", "B"), (1, "B"), ("1", "B"), (0, "A"), ("two", "B"), ("one", "A")],
)
def test_the_key_is_a_letter_an_index_from_0_or_an_options_text(key: object, letter: str) -> None:
    raw = raw_row(answer_idx=key)
    del raw["answer"]
    assert right(read(raw)) == letter


def test_a_label_of_the_row_goes_before_an_index() -> None:
    raw = raw_row(options={"1": "one", "2": "two"}, answer_idx=1, answer=None)
    assert right(read(raw)) == "1"


def test_a_letter_goes_before_a_text_that_looks_like_one() -> None:
    raw = raw_row(options={"A": "O", "B": "A"}, answer_idx="A", answer=None)
    assert right(read(raw)) == "A"


def test_a_key_that_is_the_index_of_one_option_and_the_text_of_another_is_refused() -> None:
    raw = raw_row(options=["2", "1", "0"], answer_idx="2", answer=None)
    words = "column 'answer_idx': '2' is the index of option C and the text of option A: name a letter"
    assert words in problem(raw)
    assert right(read(raw_row(options=["2", "1", "0"], answer_idx=2, answer=None))) == "C"  # a number is an index


def test_the_answer_may_be_missing_as_the_key_tells_it() -> None:
    raw = raw_row()
    del raw["answer"]
    assert read(raw).response == read(raw_row(answer=None)).response == "The correct answer is two."


def test_options_of_equal_text_count_as_equal() -> None:
    choices = read(raw_row(options=["one", "two", "one"], answer_idx="C", answer="one")).choices
    assert choices
    assert [choices.is_right(index) for index in range(3)] == [True, False, True]


def test_a_letter_without_text_is_no_option_because_parquet_fills_gaps_with_null() -> None:
    assert list(options(read(raw_row(options={"A": "one", "B": "two", "C": None})))) == ["A", "B"]


@pytest.mark.parametrize(
    "options_with_a_gap",
    [
        ["one", None, "three", "four"],
        {"text": ["one", None, "three", "four"], "label": ["A", "B", "C", "D"]},
        [{"text": text, "label": letter} for letter, text in zip("ABCD", ("one", None, "three", "four"), strict=True)],
    ],
)
def test_an_index_counts_the_options_that_are_left_out(options_with_a_gap: object) -> None:
    assert right(read(raw_row(options=options_with_a_gap, answer_idx=2, answer=None))) == "C"


def test_an_index_counts_columns_without_an_option_and_csv_leaves_them_empty() -> None:
    for gap in (None, ""):
        raw = {"question": "Which?", "opa": gap, "opb": "two", "opc": "three", "opd": "four", "cop": "2"}
        example = read(raw, options="opa,opb,opc,opd", answer_key="cop")
        assert (options(example), right(example)) == ({"B": "two", "C": "three", "D": "four"}, "C")


def test_an_index_counts_no_gap_of_a_map_so_that_parquet_and_json_say_the_same() -> None:
    with_gap = {"A": "one", "B": None, "C": "three", "D": "four"}
    without = {letter: text for letter, text in with_gap.items() if text}
    for value in (with_gap, without):
        assert right(read(raw_row(options=value, answer_idx=1, answer=None))) == "C"


def test_a_number_beside_letters_that_are_numbers_is_never_an_index() -> None:
    def keyed(key: object) -> dict[str, Any]:
        return raw_row(options={"1": "one", "2": "two", "3": "three"}, answer_idx=key, answer=None)

    assert [right(read(keyed(key))) for key in (1, "2", 3)] == ["1", "2", "3"]
    assert "0 is none of the letters 1, 2, 3" in problem(keyed(0))


@pytest.mark.parametrize("empty", ["", "  "])
def test_the_answer_may_be_empty_as_in_a_csv_file(empty: str) -> None:
    assert right(read(raw_row(answer=empty))) == "B"


def test_accents_count_as_equal_however_they_are_encoded() -> None:
    raw = raw_row(options=["caf\u00e9", "tea"], answer_idx=0, answer="cafe\u0301")
    assert right(read(raw)) == "A"
    assert right(read({**raw, "answer_idx": "cafe\u0301"})) == "A"


def test_an_index_may_be_a_whole_number_that_pandas_wrote_as_a_fraction() -> None:
    assert right(read(raw_row(answer_idx=1.0))) == "B"


def test_texts_with_labels_may_have_more_beside_them() -> None:
    value = {"label": ["A", "B"], "text": ["one", "two"], "source": ["x", "y"]}
    assert options(read(raw_row(options=value))) == {"A": "one", "B": "two"}


def test_columns_can_have_other_names() -> None:
    raw = {"q": "Which?", "choices": ["one", "two"], "gold": "one", "key": "A"}
    example = read(raw, question="q", options="choices", answer="gold", answer_key="key")
    assert example.response == "The correct answer is one."


@pytest.mark.parametrize("column", ["question", "options", "answer_idx"])
def test_a_missing_column_is_named_with_its_row_and_the_columns_that_are_there(column: str) -> None:
    raw = raw_row()
    del raw[column]
    text = problem(raw)
    assert text.startswith(f"column {column!r}: missing: the row has")
    assert all(name in text for name in raw)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "  "}, "'question': must be a text that is not empty"),
        ({"question": 3}, "'question': must be a text that is not empty, not 3"),
        ({"options": ["one"]}, "'options': needs at least 2 options, has 1"),
        ({"options": {"A": "one", "B": ""}}, "'options': option B must be a text that is not empty"),
        ({"options": {"A": "one", "B": 2}}, "'options': option B must be a text that is not empty, not 2"),
        ({"options": 5}, "'options': must be a map from letter to text"),
        ({"options": ["x"] * 27}, "'options': must be a map from letter to text, a list of at most 26 texts"),
        ({"options": "one, two"}, "'options': 'one, two' is no JSON map or list"),
        ({"options": "[" * 100_000}, "is no JSON map or list"),
        ({"options": '{"A": "one", "A": "two"}'}, "is no JSON map or list: 'A' stands twice in one object"),
        ({"options": {"text": ["one", "two"], "label": ["A"]}}, "'options': has 2 texts and 1 labels"),
        ({"options": [{"text": "one", "label": "A"}, {"text": "two", "label": "A"}]}, "letter A stands twice"),
        ({"question": "Wh\ud83d?"}, "'question': character 3 is U+D83D, half of a surrogate pair"),
        ({"options": {"A": "one", "B": "\ud83d"}}, "character 1 is U+D83D, half of a surrogate pair"),
        ({"options": {"A": "one", "\ud83d": "two"}}, "character 1 is U+D83D, half of a surrogate pair"),
        ({"answer_idx": "C"}, "'answer_idx': 'C' is none of the letters A, B"),
        ({"answer_idx": 2}, "'answer_idx': 2 is none of the letters A, B, nor an index from 0 to 1"),
        ({"options": ["one", None, "two"], "answer_idx": 1}, "an index from 0 to 2 of an option that is there"),
        ({"options": {"1": "one", "2": "two"}, "answer_idx": 0}, "0 is none of the letters 1, 2, nor an option's text"),
        ({"options": [{"text": "one", "label": None}] * 2}, "a letter must be a text that is not empty, not None"),
        ({"answer_idx": 0.5}, "'answer_idx': must be a letter of A, B, an index from 0 or an option's text, not 0.5"),
        ({"answer_idx": -1}, "'answer_idx': -1 is none of the letters A, B"),
        ({"answer_idx": True}, "'answer_idx': must be a letter of A, B, an index from 0 or an option's text, not True"),
        ({"answer_idx": None}, "'answer_idx': must be a letter of A, B"),
        ({"answer": "one"}, "'answer': 'one' is not the text of option B, 'two'"),
        ({"answer": ["two"]}, "'answer': must be a text that is not empty, not ['two']"),
    ],
)
def test_a_bad_cell_is_named_with_its_row_and_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    text = problem(raw_row(**changes))
    assert text.startswith("column ")
    assert words in text


def test_a_row_that_is_no_object_is_refused() -> None:
    assert problem([1, 2]) == "must be an object with columns, not [1, 2]"


def test_a_long_cell_is_shortened_in_the_message() -> None:
    assert len(problem(raw_row(options="x" * 10_000))) < 300


def test_the_prompt_lists_the_options_one_per_line() -> None:
    text = "Which?\n\nOptions:\nA. one\nB. two\n\nPlease choose the correct answer."
    assert read(raw_row()).prompt == (Message("user", text),)


def test_templates_fill_in_options_and_any_response() -> None:
    example = raw_rows.read(
        "MultipleChoice",
        raw_row(),
        prompt_template="{options}|{question}",
        option_template="({letter}) {option}",
        response_template="Answer: {letter}",
    )
    assert example.messages == (Message("user", "(A) one\n(B) two|Which?"), Message("assistant", "Answer: B"))
    assert example.choices
    assert [choice.response for choice in example.choices.options] == ["Answer: A", "Answer: B"]


def test_braces_in_a_row_are_text() -> None:
    raw = raw_row(
        question="What is {answer!r:>9} in {0} {{}}?", options=["{letter}", "{question.__class__}"], answer=None
    )
    example = read(raw)
    assert "What is {answer!r:>9} in {0} {{}}?" in example.prompt[0].content
    assert "A. {letter}\nB. {question.__class__}" in example.prompt[0].content
    assert example.response == "The correct answer is {question.__class__}."


def test_the_digest_of_a_row_tells_order_and_letters_and_not_templates() -> None:
    one = read(raw_row())
    as_json = raw_row(options='{"A": "one", "B": "two"}')
    assert one.sha256 == raw_rows.read("MultipleChoice", as_json, prompt_template="{question}").sha256
    for changed in (
        {"options": {"B": "two", "A": "one"}},
        {"options": {"A": "one", "C": "two"}, "answer_idx": "C"},
        {"answer_idx": "A", "answer": "one"},
        {"question": "Who?"},
    ):
        assert read(raw_row(**changed)).sha256 != one.sha256
