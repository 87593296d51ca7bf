"""Scores and answers of every kind of model are those of a plain pass: one row, no padding, no cache."""

from __future__ import annotations

import random
from typing import Any

import pytest

from finetune_api.model import ModelSpec
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.questions import Question
from tiny_architectures import ATTENTION, CONTEXT, STATES, VOCABULARY, build
from tokenizer_kinds import CHATS, make_tokenizer

NAMES = [*ATTENTION, *STATES]
NATS = 2e-5


def make_questions() -> list[Question]:
    """Prompts and options of many lengths, some of one token; keys of one token and of several."""
    source = random.Random(3)

    def ids(count: int) -> list[int]:
        return [source.randrange(3, VOCABULARY) for _ in range(count)]

    def question(prompt: int, options: list[int], keys: list[list[int]]) -> Question:
        shared = ids(2)
        choices = tuple(Choice(letter, letter, letter) for letter in "ABCDE"[: len(options)])
        return Question(ids(prompt), [shared + ids(count) + [2] for count in options], keys, 1, Choices(choices, 0))

    return [
        question(21, [3, 5, 1], [[5], [6], [7]]),
        question(9, [2, 2, 2, 2], [[5], [6], [7], [8]]),
        question(30, [1, 6], [[5], [5, 9]]),
        question(14, [4, 4, 2, 2, 3], [[5], [6], [7], [8], [9]]),
        question(1, [1, 1], [[9], [10, 11, 12]]),
        question(40, [9, 1], [[5], [6]]),
    ]


QUESTIONS = make_questions()


def plain(model: Any, question: Question) -> list[list[float]]:
    import torch

    table = []
    for continuation in question.continuations:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([question.prompt + continuation]), use_cache=False).logits[0]
        log_probabilities = logits.log_softmax(-1)
        before = len(question.prompt) - 1
        table.append([float(log_probabilities[before + at, token]) for at, token in enumerate(continuation)])
    return table


def chosen(question: Question, row: list[list[float]]) -> list[int]:
    metrics = (METRICS["Accuracy"], METRICS["LetterAccuracy"])
    return [metric.row(question, question.group_of(metric.needs, row)).option for metric in metrics]


def margins(question: Question, row: list[list[float]]) -> list[list[float]]:
    metrics = (METRICS["Accuracy"], METRICS["LetterAccuracy"])
    return [metric.margin(question, question.group_of(metric.needs, row)) for metric in metrics]


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_batches_are_those_of_a_plain_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_trainer.evaluation import likelihood
    from finetune_trainer.evaluation.precision import Precision
    from finetune_trainer.evaluation.scoring import Scorer

    model = build(name)
    expected = [plain(model, question) for question in QUESTIONS]
    for budget, logits in ((1, 2**20), (300, 2**20), (100_000, 2**20), (100_000, 70 * VOCABULARY)):
        monkeypatch.setattr(likelihood, "MAX_LOGITS", logits)  # the last takes three tokens at a time
        # The batches as they are, nothing put right by plain passes.
        scores = Scorer(0, budget, margins, Precision(settle_near_ties=False)).score(model, QUESTIONS)
        assert scores.agreement.way == ("SharedPrompts" if name in ATTENTION else "WholeSequences")
        assert scores.agreement.different == 0
        for question, found, right in zip(QUESTIONS, scores.table, expected, strict=True):
            assert [len(values) for values in found] == [len(ids) for ids in question.continuations]
            for these, those in zip(found, right, strict=True):
                assert these == pytest.approx(those, abs=NATS)
            assert chosen(question, found) == chosen(question, right)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return read_chat_format(make_tokenizer("byte-level BPE", CHATS["ChatML"]), ModelSpec(source="pvc://a/b"), None)


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_batches_are_the_likeliest_tokens_of_one_prompt_at_a_time(name: str, chat: ChatFormat) -> None:
    import torch

    from finetune_trainer.evaluation.generation import answer

    model = build(name)
    prompts = [question.prompt for question in QUESTIONS] + [QUESTIONS[0].prompt]
    pad = chat.tokenizer.pad_token_id
    found = answer(model, prompts, chat, 0 if pad is None else pad, 8, 100_000, CONTEXT)
    for prompt, generated in zip(prompts, found, strict=True):
        ids: list[int] = []
        for _ in range(8):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + ids]), use_cache=False).logits[0, -1]
            ids.append(int(logits.argmax()))
            if ids[-1] in chat.stop_ids:
                break
        stopped = ids[-1] in chat.stop_ids
        text = chat.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True)
        assert generated.text == text.strip()
        assert generated.cut is not stopped


@pytest.mark.parametrize("name", ["GPT-2", "OPT"])
def test_an_answer_ends_with_the_positions_of_a_model_that_has_learned_them(name: str, chat: ChatFormat) -> None:
    from finetune_trainer.evaluation.generation import answer

    (generated,) = answer(build(name), [[5] * (CONTEXT - 4)], chat, 0, 64, 1000, CONTEXT)
    assert generated.cut
