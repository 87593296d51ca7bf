"""Each metric from likelihoods whose answer is known, and keys of every kind in tokenizers of every kind."""

from __future__ import annotations

import math
from itertools import product

import pytest

from finetune_api.evaluation import EvaluationSpec, MetricName
from finetune_api.model import ModelSpec
from finetune_api.rules import fill
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.evaluation.metrics import METRICS, metrics_of
from finetune_trainer.evaluation.metrics.accuracy import Accuracy
from finetune_trainer.evaluation.metrics.letter_accuracy import LetterAccuracy
from finetune_trainer.evaluation.metrics.perplexity import Perplexity
from finetune_trainer.evaluation.questions import Group, Question, make_questions
from tokenizer_kinds import CHATS, make_tokenizer

TEMPLATE = "The correct answer is {answer}."


def choices_of(options: dict[str, str], right: int = 0) -> Choices:
    return Choices(
        tuple(Choice(letter, text, fill(TEMPLATE, answer=text, letter=letter)) for letter, text in options.items()),
        right,
    )


def question_of(
    responses: list[list[int]], keys: list[list[int]] | None = None, right: int = 0, texts: str = "pqrstuvw"
) -> Question:
    options = dict(zip("ABCDEFGH", texts[: len(responses or keys or [])], strict=False))
    return Question([1], responses, keys or [], 1, choices_of(options, right))


def test_every_metric_of_the_spec_is_in_the_registry_under_its_own_name() -> None:
    assert set(METRICS) == set(MetricName.__args__)  # type: ignore[attr-defined]
    assert all(metric.name == name and metric.definition for name, metric in METRICS.items())
    spec = EvaluationSpec.model_validate({"dataset": {"source": "pvc://data/a.jsonl"}, "metrics": ["Perplexity"]})
    assert [metric.name for metric in metrics_of(spec.metrics)] == ["Perplexity"]


def test_a_spec_may_name_all_metrics_at_once() -> None:
    spec = EvaluationSpec.model_validate({"dataset": {"source": "pvc://data/a.jsonl"}, "metrics": [*METRICS]})
    assert [metric.name for metric in metrics_of(spec.metrics)] == [*METRICS]


def test_option_scores_ignore_what_all_options_share_and_the_end_of_the_turn() -> None:
    question = question_of([[1, 2, 10, 9], [1, 2, 11, 12, 9]])
    likelihoods = [[-5.0, -5.0, -1.0, -8.0], [-5.0, -5.0, -0.5, -0.9, -8.0]]
    assert Accuracy().scores(question, likelihoods) == pytest.approx([-1.0, -0.7])


def test_a_shared_prefix_never_favours_the_longer_option() -> None:
    question = question_of([[1, 2, 10, 9], [1, 2, 11, 12, 13, 14, 9]])
    likelihoods = [[-20.0, -20.0, -1.0, 0.0], [-20.0, -20.0, -1.1, -1.1, -1.1, -1.1, 0.0]]
    assert Accuracy().row(question, likelihoods).option == 0


def test_an_option_that_begins_another_still_has_a_score() -> None:
    question = question_of([[1, 2, 9], [1, 2, 3, 9]])
    scores = Accuracy().scores(question, [[-1.0, -2.0, 0.0], [-1.0, -2.0, -3.0, 0.0]])
    assert scores == pytest.approx([-2.0, -2.5])


def test_an_option_of_the_right_ones_text_is_right_wherever_it_stands() -> None:
    question = question_of([[5, 9], [6, 9], [5, 9]], right=2, texts="oeo")
    row = Accuracy().row(question, [[-1.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]])
    assert (row.option, row.right) == (0, True)
    assert not Accuracy().row(question, [[-9.0, 0.0], [-3.0, 0.0], [-9.0, 0.0]]).right


def test_perplexity_is_of_all_tokens_of_the_right_responses() -> None:
    metric = Perplexity()
    rows = [
        metric.row(question_of([[5, 9], [6, 9]], right=1), [[-9.0, -9.0], [-1.0, -0.25]]),
        metric.row(question_of([[5, 6, 9], [6, 9]]), [[-2.0, -1.0, -0.75], [-9.0, -9.0]]),
    ]
    assert float(metric.value(rows).value) == pytest.approx(math.exp(5.0 / 5), rel=1e-5)


def test_keys_that_share_their_first_token_are_told_apart_by_the_whole_key() -> None:
    question = question_of([], [[7, 1], [7, 2], [8]], right=1)
    metric = LetterAccuracy()
    assert metric.why_not(question) is None
    likelihoods = [[-0.1, -3.0], [-0.1, -0.2], [-2.0]]
    assert metric.scores(question, likelihoods) == pytest.approx([-3.1, -0.3, -2.0])
    assert metric.row(question, likelihoods).right


def test_a_key_that_begins_another_counts_only_where_the_answer_does_not_go_on_as_the_longer_one() -> None:
    """Checked by listing all answers of three tokens of a model that knows three."""
    table = {(): [0.1, 0.7, 0.2], (1,): [0.5, 0.3, 0.2], (1, 0): [0.4, 0.35, 0.25]}
    keys = [[1], [1, 0], [1, 0, 2], [2]]

    def probability(tokens: tuple[int, ...]) -> float:
        return math.prod(table.get(tokens[:at], [1 / 3] * 3)[token] for at, token in enumerate(tokens))

    expected = [0.0] * len(keys)
    for tokens in product(range(3), repeat=3):
        begun = [index for index, key in enumerate(keys) if list(tokens[: len(key)]) == key]
        if begun:
            expected[max(begun, key=lambda index: len(keys[index]))] += probability(tokens)
    likelihoods = [
        [math.log(table.get(tuple(key[:at]), [1 / 3] * 3)[key[at]]) for at in range(len(key))] for key in keys
    ]
    found = LetterAccuracy().scores(question_of([], keys), likelihoods)
    assert [math.exp(score) for score in found] == pytest.approx(expected)


def test_a_key_that_always_goes_on_as_a_longer_one_is_never_chosen() -> None:
    row = LetterAccuracy().row(question_of([], [[7], [7, 1], [8]]), [[-0.1], [-0.1, 0.0], [-30.0]])
    assert row.option == 1


def test_keys_without_tokens_of_their_own_are_named_as_the_reason() -> None:
    same = question_of([], [[7, 1], [8], [7, 1]])
    assert LetterAccuracy().why_not(same) == "the keys A and C have the same tokens"
    assert LetterAccuracy().why_not(question_of([], [[7], []])) == "the tokenizer has no token for the key B"


KEYS = {
    "letters": ["A", "B", "C", "D", "E"],
    "numbers": ["1", "2", "3", "4"],
    "tens": ["10", "11", "12", "1"],
    "words": ["opa", "opb", "opc"],
    "Cyrillic": ["А", "Б", "В", "Г"],
    "Japanese": ["ア", "イ", "ウ", "エ"],
    "circled": ["①", "②", "③"],
}
TOKENIZERS = ["byte-level BPE", "NFC-normalising", "Metaspace, prepended", "Metaspace, first", "Metaspace, never"]
CONVERSATIONS = ["ChatML", "Llama 3", "Llama 2", "Qwen3 without thinking", "gpt-oss"]


def chat_of(kind: str, name: str) -> ChatFormat:
    chat = CHATS[name]
    spec = ModelSpec(source="pvc://a/model", chat_template_kwargs=dict(chat.variables))
    return read_chat_format(make_tokenizer(kind, chat), spec, None)


def make_question(chat: ChatFormat, keys: list[str]) -> Question:
    options = {key: f"option {number}" for number, key in enumerate(keys)}
    messages = (Message("user", "Which?"), Message("assistant", "The correct answer is option 0."))
    (question,) = make_questions([Example(messages, choices_of(options))], chat, {Group.RESPONSES, Group.KEYS})
    return question


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_keys_of_every_kind_are_told_apart_with_every_kind_of_tokenizer(
    kind: str, conversation: str, keys: list[str]
) -> None:
    chat = chat_of(kind, conversation)
    question = make_question(chat, keys)
    metric = LetterAccuracy()
    assert metric.why_not(question) is None
    for number, ids in enumerate(question.keys):
        said = "".join(chat.decode(ids).split())  # some tokenizers decode a space around special tokens
        assert said == "".join(f"{chat.lead}{keys[number]}".split())
        # A model that is sure of this key: its tokens are certain, all others unlikely.
        likelihoods = [
            [0.0 if token in ids[at : at + 1] else -9.0 for at, token in enumerate(key)] for key in question.keys
        ]
        assert metric.row(question, likelihoods).option == number


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_an_answer_that_begins_with_a_letter_begins_with_that_keys_tokens(kind: str) -> None:
    chat = chat_of(kind, "ChatML")
    question = make_question(chat, KEYS["letters"])
    for letter, ids in zip(KEYS["letters"], question.keys, strict=True):
        (answer,) = chat.response_ids([f"{letter}. option 0"])
        assert answer[: len(ids)] == ids


def test_what_no_metric_wants_is_not_tokenised() -> None:
    chat = chat_of("byte-level BPE", "ChatML")
    messages = (Message("user", "Which?"), Message("assistant", "The correct answer is p."))
    example = Example(messages, choices_of({"A": "p", "B": "q"}))
    (letters,) = make_questions([example], chat, {Group.KEYS})
    (responses,) = make_questions([example], chat, {Group.RESPONSES})
    assert letters.responses == []
    assert responses.keys == []
    assert responses.terminator_length == len(chat.terminator_ids)
    assert all(tuple(ids[-responses.terminator_length :]) == chat.terminator_ids for ids in responses.responses)
