"""Batched scores and answers are those of one row at a time."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.data.chat_template import ChatFormat, read_chat_format
from finetune_trainer.data.formats.multiple_choice import ChoiceRow
from finetune_trainer.evaluation.questions import Question, Score, make_questions, option_scores
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device

CPU = Device("cpu", "CPU", 0, "float32")
TEMPLATE = "The correct answer is {answer}."
ROWS = [
    ChoiceRow("Where?", {"A": "old barn", "B": "river bank"}, "B"),
    ChoiceRow("Where does a very old otter live?", {"A": "x", "B": "pine wood", "C": "a wall of grey stones"}, "C"),
    ChoiceRow("Where does " + "a very " * 30 + "old heron live?", {"A": "wood", "B": "wood and hill"}, "A"),
    ChoiceRow("Who?", {letter: f"number {letter}" for letter in "ABCDE"}, "E"),
]


@pytest.fixture(scope="module")
def tuned(run: Any, tiny_model: Any) -> tuple[Any, ChatFormat]:
    from finetune_trainer.models.evaluation_model import attach, load_base, load_tokenizer

    base = load_base(ModelSource(str(tiny_model), None, False), CPU)
    return attach(base, run.adapter), read_chat_format(load_tokenizer(run.adapter))


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


def assert_equal_to_single_sequences(found: list[Score], model: Any, questions: list[Question]) -> None:
    for row, question in zip(found, questions, strict=True):
        expected = one_by_one(model, question)
        assert (row.option, row.letter, row.right_tokens) == (
            expected.option,
            expected.letter,
            expected.right_tokens,
        )
        assert row.right_log_likelihood == pytest.approx(expected.right_log_likelihood, abs=1e-3)


@pytest.mark.parametrize("budget", [1, 1000, 100_000])
def test_scores_of_a_padded_batch_with_a_shared_prompt_equal_those_of_single_sequences(
    tuned: tuple[Any, ChatFormat], questions: list[Question], budget: int
) -> None:
    from finetune_trainer.evaluation.likelihood import score

    model, chat = tuned
    scored: list[int] = []
    found = score(model, questions, chat.tokenizer.pad_token_id, budget, scored.append)
    assert sum(scored) == len(ROWS)
    assert len(scored) == {1: 4, 1000: 3, 100_000: 1}[budget]
    assert_equal_to_single_sequences(found, model, questions)


class Watched:
    """A model that notes the shape of every input, and runs out of memory above a number of rows."""

    def __init__(self, model: Any, limit: int | None = None) -> None:
        self.model, self.limit = model, limit
        self.device = model.device
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, input_ids: Any, **arguments: Any) -> Any:
        self.shapes.append(tuple(input_ids.shape))
        self._allocate(input_ids.shape[0])
        return self.model(input_ids=input_ids, **arguments)

    def generate(self, input_ids: Any, **arguments: Any) -> Any:
        self.shapes.append(tuple(input_ids.shape))
        self._allocate(input_ids.shape[0])
        return self.model.generate(input_ids=input_ids, **arguments)

    def _allocate(self, rows: int) -> None:
        import torch

        if self.limit is not None and rows > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. If reserved but unallocated")


@pytest.mark.parametrize("tokens", [1, 3])
def test_logits_are_made_in_pieces_of_bounded_size_and_give_equal_scores(
    tuned: tuple[Any, ChatFormat], questions: list[Question], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    from finetune_trainer.evaluation import likelihood as scoring

    model, chat = tuned
    watched = Watched(model)
    rows = len(ROWS) * 5
    monkeypatch.setattr(scoring, "MAX_LOGITS", tokens * rows * model.config.vocab_size)
    found = scoring.score(watched, questions, chat.tokenizer.pad_token_id, 100_000)
    _, *pieces = watched.shapes
    longest = max(len(response) for question in questions for response in question.responses)
    assert {size for size, _ in pieces} == {rows}
    assert max(width for _, width in pieces) == tokens
    assert sum(width for _, width in pieces) == longest - 1
    assert_equal_to_single_sequences(found, model, questions)


def test_a_batch_that_exceeds_the_gpus_memory_is_halved_and_gives_equal_scores(
    tuned: tuple[Any, ChatFormat], questions: list[Question]
) -> None:
    from finetune_trainer.evaluation.likelihood import score

    model, chat = tuned
    scored: list[int] = []
    watched = Watched(model, limit=5)
    found = score(watched, questions, chat.tokenizer.pad_token_id, 100_000, scored.append)
    assert sum(scored) == len(ROWS)
    assert max(rows for rows, _ in watched.shapes) == 5 * len(ROWS)
    assert_equal_to_single_sequences(found, model, questions)


def test_a_question_that_exceeds_the_gpus_memory_by_itself_is_tried_once_and_given_up(
    tuned: tuple[Any, ChatFormat], questions: list[Question]
) -> None:
    import torch

    from finetune_trainer.evaluation.likelihood import score

    model, chat = tuned
    watched = Watched(model, limit=0)
    with pytest.raises(torch.OutOfMemoryError):
        score(watched, questions, chat.tokenizer.pad_token_id, 100_000)
    assert [rows for rows, _ in watched.shapes].count(1) == 1


def test_letters_are_told_apart_and_the_right_option_is_known(questions: list[Question]) -> None:
    assert all(len(set(question.letters)) == len(question.responses) for question in questions)
    assert [question.right for question in questions] == [1, 2, 0, 4]
    assert {question.terminator_length for question in questions} == {1}


def test_batched_answers_with_left_padding_equal_those_of_one_prompt_at_a_time(
    tuned: tuple[Any, ChatFormat], questions: list[Question]
) -> None:
    from finetune_trainer.evaluation.generation import answer

    model, chat = tuned
    prompts = [question.prompt for question in questions]
    assert len({len(prompt) for prompt in prompts}) == len(prompts)
    pad = chat.tokenizer.pad_token_id
    together = answer(model, prompts, chat, pad, 12, 100_000)
    apart = answer(model, prompts, chat, pad, 12, 1)
    halved = answer(Watched(model, limit=2), prompts, chat, pad, 12, 100_000)
    assert together == apart == halved
    assert all(together)
