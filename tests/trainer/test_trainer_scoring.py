"""Batched scores and answers are those of one row at a time."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.chat import ChatFormat, read_chat_format
from finetune_trainer.device import Device
from finetune_trainer.questions import Question, Score, make_questions, option_scores
from finetune_trainer.rows import ChoiceRow
from finetune_trainer.source import ModelSource

TEMPLATE = "The correct answer is {answer}."
ROWS = [
    ChoiceRow("Where?", {"A": "old barn", "B": "river bank"}, "B"),
    ChoiceRow("Where does a very old otter live?", {"A": "x", "B": "pine wood", "C": "a wall of grey stones"}, "C"),
    ChoiceRow("Where does " + "a very " * 30 + "old heron live?", {"A": "wood", "B": "wood and hill"}, "A"),
    ChoiceRow("Who?", {letter: f"number {letter}" for letter in "ABCDE"}, "E"),
]


@pytest.fixture(scope="module")
def tuned(run: Any, tiny_model: Any) -> tuple[Any, ChatFormat]:
    from finetune_trainer.tuned import load_tuned

    source = ModelSource(str(tiny_model), None, False)
    model, tokenizer = load_tuned(source, run.adapter, Device("cpu", "CPU", 0, "float32"))
    return model, read_chat_format(tokenizer)


@pytest.fixture(scope="module")
def questions(tuned: tuple[Any, ChatFormat]) -> list[Question]:
    return make_questions(ROWS, "{question}\n{options}", TEMPLATE, tuned[1])


def one_by_one(model: Any, question: Question) -> Score:
    """The same numbers from whole sequences: no batch, no padding, no cache."""
    import torch

    likelihoods = []
    for response in question.responses:
        ids = torch.tensor([question.prompt + response])
        with torch.inference_mode():
            table = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        start = len(question.prompt)
        likelihoods.append([float(table[start - 1 + index, token]) for index, token in enumerate(response)])
        letters = [float(table[start - 1, token]) for token in question.letters]
    scores = option_scores(question.responses, likelihoods, question.terminator_length)
    right = likelihoods[question.right]
    return Score(scores.index(max(scores)), letters.index(max(letters)), sum(right), len(right))


@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_scores_of_a_padded_batch_with_a_shared_prompt_equal_those_of_single_sequences(
    tuned: tuple[Any, ChatFormat], questions: list[Question], budget: int
) -> None:
    from finetune_trainer.scoring import score

    model, chat = tuned
    scored: list[int] = []
    found = score(model, questions, chat.tokenizer.pad_token_id, budget, scored.append)
    assert sum(scored) == len(ROWS)
    assert (len(scored) == len(ROWS)) == (budget == 1)
    for row, question in zip(found, questions, strict=True):
        expected = one_by_one(model, question)
        assert (row.option, row.letter, row.right_tokens) == (
            expected.option,
            expected.letter,
            expected.right_tokens,
        )
        assert row.right_log_likelihood == pytest.approx(expected.right_log_likelihood, abs=1e-3)


def test_letters_are_told_apart_and_the_right_option_is_known(questions: list[Question]) -> None:
    assert all(len(set(question.letters)) == len(question.responses) for question in questions)
    assert [question.right for question in questions] == [1, 2, 0, 4]
    assert {question.terminator_length for question in questions} == {1}


def test_batched_answers_with_left_padding_equal_those_of_one_prompt_at_a_time(
    tuned: tuple[Any, ChatFormat], questions: list[Question]
) -> None:
    from finetune_trainer.generation import answer

    model, chat = tuned
    prompts = [question.prompt for question in questions]
    assert len({len(prompt) for prompt in prompts}) == len(prompts)
    pad = chat.tokenizer.pad_token_id
    together = answer(model, prompts, chat, pad, 12, 100_000)
    apart = answer(model, prompts, chat, pad, 12, 1)
    assert together == apart
    assert all(together)


def test_with_its_adapter_off_the_model_is_the_base_model(
    tuned: tuple[Any, ChatFormat], questions: list[Question], tiny_model: Any
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model, _ = tuned
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=quantised, dtype=torch.float32)
    ids = torch.tensor([questions[0].prompt])
    with torch.inference_mode():
        with model.disable_adapter():
            off = model(input_ids=ids).logits
        assert off.equal(base(input_ids=ids).logits)
        assert not off.equal(model(input_ids=ids).logits)
