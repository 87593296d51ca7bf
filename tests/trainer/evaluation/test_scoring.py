"""Batches of any size, near-ties, numbers that are none, and logits in 32 bit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.metrics import METRICS, scored
from finetune_trainer.evaluation.questions import Question
from tiny_architectures import VOCABULARY, build

ACCURACY = METRICS["Accuracy"]


def make_questions(count: int, seed: int = 5) -> list[Question]:
    source = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [source.randrange(3, VOCABULARY) for _ in range(length)]

    def question() -> Question:
        options = source.randrange(2, 6)
        shared = ids(2)
        choices = tuple(Choice(letter, letter, letter) for letter in "ABCDE"[:options])
        responses = [shared + ids(source.randrange(1, 6)) + [2] for _ in choices]
        return Question(ids(source.randrange(4, 30)), responses, [], 1, Choices(choices, 0))

    return [question() for _ in range(count)]


QUESTIONS = make_questions(48)


def margins(question: Question, row: list[list[float]]) -> list[list[float]]:
    return [ACCURACY.margin(question, row)]


@pytest.fixture(scope="module")
def llama() -> Any:
    return build("Llama")


@pytest.fixture(scope="module")
def plain(llama: Any) -> list[list[list[float]]]:
    """Whole sequences one at a time, by the loss that transformers itself computes."""
    import torch

    def log_likelihoods(prompt: list[int], response: list[int]) -> list[float]:
        ids = torch.tensor([prompt + response])
        found = []
        for at in range(len(prompt), ids.shape[1]):
            labels = torch.full_like(ids, -100)
            labels[0, at] = ids[0, at]  # the loss is then the mean over this one token
            with torch.inference_mode():
                found.append(-float(llama(input_ids=ids, labels=labels).loss))
        return found

    return [
        [log_likelihoods(question.prompt, response) for response in question.responses] for question in QUESTIONS[:8]
    ]


class Watched:
    """A model that notes the shape of every input, fails above a number of rows, and changes logits of batches."""

    def __init__(self, model: Any, limit: float = math.inf, noise: Callable[[Any], Any] | None = None) -> None:
        self.model, self.limit, self.noise = model, limit, noise
        self.shapes: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, input_ids: Any, **arguments: Any) -> Any:
        import torch

        self.shapes.append(tuple(input_ids.shape))
        if input_ids.shape[0] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. If reserved but unallocated")
        output = self.model(input_ids=input_ids, **arguments)
        if self.noise and "attention_mask" in arguments:
            output.logits = self.noise(output.logits)
        return output


def scorer(budget: int = 2000, settle: bool = True) -> Any:
    from finetune_trainer.evaluation.precision import Precision
    from finetune_trainer.evaluation.scoring import Scorer

    return Scorer(0, budget, margins, Precision(settle_near_ties=settle))


@pytest.mark.parametrize("budget", [1, 500, 100_000])
def test_likelihoods_are_those_of_transformers_own_loss_whatever_the_batch(
    llama: Any, plain: list[list[list[float]]], budget: int
) -> None:
    scored: list[int] = []
    found = scorer(budget, settle=False).score(llama, QUESTIONS[:8], scored.append).table
    assert sum(scored) == 8
    assert len(scored) == {1: 8, 500: len(scored), 100_000: 1}[budget]
    for row, expected in zip(found, plain, strict=True):
        for values, right in zip(row, expected, strict=True):
            assert values == pytest.approx(right, abs=2e-5)


@pytest.mark.parametrize("tokens", [1, 3])
def test_logits_are_made_in_pieces_of_bounded_size_and_give_equal_scores(
    llama: Any, plain: list[list[list[float]]], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    from finetune_trainer.evaluation import likelihood

    questions = QUESTIONS[:8]
    rows = len(questions) * max(len(question.responses) for question in questions)
    monkeypatch.setattr(likelihood, "MAX_LOGITS", tokens * rows * VOCABULARY)
    watched = Watched(llama)
    found = likelihood.shared_prompts(watched, questions, 0)
    _, *pieces = watched.shapes
    longest = max(len(response) for question in questions for response in question.responses)
    assert {size for size, _ in pieces} == {rows}
    assert max(width for _, width in pieces) == tokens
    assert sum(width for _, width in pieces) == longest - 1
    for row, expected in zip(found, plain, strict=True):
        for values, right in zip(row, expected, strict=True):
            assert values == pytest.approx(right, abs=2e-5)


def test_a_batch_that_exceeds_the_gpus_memory_is_halved_and_gives_equal_scores(
    llama: Any, plain: list[list[list[float]]]
) -> None:
    scored: list[int] = []
    watched = Watched(llama, limit=6)
    found = scorer(100_000, settle=False).score(watched, QUESTIONS[:8], scored.append).table
    assert sum(scored) == 8
    assert max(rows for rows, _ in watched.shapes) > 6
    for row, expected in zip(found, plain, strict=True):
        for values, right in zip(row, expected, strict=True):
            assert values == pytest.approx(right, abs=2e-5)


def test_a_question_that_exceeds_the_gpus_memory_by_itself_is_given_up(llama: Any) -> None:
    import torch

    with pytest.raises(torch.OutOfMemoryError):
        scorer(100_000).score(Watched(llama, limit=0), QUESTIONS)


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """What a batch's shape does to logits on a GPU: every one a little off, another way each time."""
    import torch

    from finetune_trainer.evaluation import scoring

    monkeypatch.setattr(scoring, "CHECKED_ROWS", {"cuda": 12, "cpu": 12})
    monkeypatch.setattr(scoring, "_WRONG", {torch.float32: 0.25})
    generator = torch.Generator().manual_seed(1)
    return lambda logits: logits + 0.05 * torch.randn(logits.shape, generator=generator)


def test_near_ties_are_decided_as_a_plain_pass_decides_them(llama: Any, rounding: Callable[[Any], Any]) -> None:
    # Options so alike that a batch decides some of them otherwise.
    questions = [
        Question(q.prompt, [[*q.responses[0][:-2], token, 2] for token in (11, 12, 13)], [], 1, q.choices)
        for q in make_questions(60, seed=9)
        if len(q.responses) > 2
    ]
    exact = scorer(1).score(llama, questions).table
    expected = [ACCURACY.row(q, row).option for q, row in zip(questions, exact, strict=True)]
    as_they_are = scorer(settle=False).score(Watched(llama, noise=rounding), questions)
    settled = scorer().score(Watched(llama, noise=rounding), questions)

    def wrong(scores: Any) -> int:
        pairs = zip(questions, scores.table, expected, strict=True)
        return sum(ACCURACY.row(question, row).option != right for question, row, right in pairs)

    assert wrong(as_they_are) >= 2
    assert wrong(settled) == 0
    assert settled.agreement.checked == 12
    assert settled.agreement.changed + settled.agreement.different > 0
    assert settled.agreement.missed == 0
    assert 0 < settled.agreement.settled <= math.ceil(0.4 * len(questions))


def test_what_is_a_near_tie_is_told_for_each_metric_by_its_own_spread() -> None:
    from finetune_trainer.evaluation import scoring

    off = [0.001, -0.002, 0.0015]  # what a batch changes in the mean over a response's tokens, and tenfold in a letter
    pairs = [([[0.0, 1.0], [0.0, 10.0]], [[0.0, 1.0 + one], [0.0, 10.0 + 10 * one]]) for one in off]
    mean, letter = scoring._limits(pairs)
    assert letter == pytest.approx(10 * mean)
    assert mean == pytest.approx(5 * math.sqrt(sum(one * one for one in off) / 3))
    assert scoring._closeness([[0.0, 2 * mean], [0.0, letter / 2]], [mean, letter]) == pytest.approx(0.5)


def test_a_model_whose_rows_are_all_near_ties_takes_no_more_than_its_share_of_plain_passes(
    llama: Any, rounding: Callable[[Any], Any]
) -> None:
    question = QUESTIONS[0]
    same = [Question(q.prompt, [question.responses[0]] * 2, [], 1, question.choices) for q in QUESTIONS]
    agreement = scorer().score(Watched(llama, noise=rounding), same).agreement
    assert agreement.settled <= math.ceil(0.4 * len(same))


def test_a_cache_that_gives_something_else_than_a_plain_pass_is_not_used(
    llama: Any, plain: list[list[list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.evaluation import likelihood, scoring

    def without_padding_mask(model: Any, questions: Any, pad_id: int) -> Any:
        unpadded = [Question([0] * 3 + q.prompt, q.responses, [], 1, q.choices) for q in questions]
        return likelihood.shared_prompts(model, unpadded, pad_id)

    monkeypatch.setattr(scoring, "shared_prompts", without_padding_mask)
    scores = scorer(settle=False).score(llama, QUESTIONS[:8])
    assert scores.agreement.way == "WholeSequences"
    for row, expected in zip(scores.table, plain, strict=True):
        for values, right in zip(row, expected, strict=True):
            assert values == pytest.approx(right, abs=2e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_no_score(llama: Any, value: float) -> None:
    from finetune_trainer.evaluation.scoring import NotFiniteError

    with pytest.raises(NotFiniteError):
        scorer().score(Watched(llama, noise=lambda logits: logits * 0 + value), QUESTIONS)


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Bloom"])
def test_the_head_computes_in_32_bit_and_what_follows_it_too(name: str) -> None:
    import torch

    from finetune_trainer.evaluation.precision import wide_head

    model = build(name).to(torch.bfloat16)
    ids = torch.tensor([QUESTIONS[0].prompt])
    with torch.inference_mode():
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        rounded = model(input_ids=ids, use_cache=False).logits
        with wide_head(model):
            found = model(input_ids=ids, use_cache=False).logits
        expected = hidden.float() @ model.get_output_embeddings().weight.float().T
        if cap := getattr(model.config, "final_logit_softcapping", None):
            expected = cap * torch.tanh(expected / cap)
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, rounded)
    assert (found.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, rounded.float(), atol=1e-5)


def test_rows_on_which_a_metric_decides_nothing_stand_beside_others(llama: Any) -> None:
    """As where two keys of some rows have the same tokens, so that LetterAccuracy counts the others alone."""
    from finetune_trainer.evaluation.scoring import Scorer

    def some(question: Question, row: list[list[float]]) -> list[list[float]]:
        return [ACCURACY.margin(question, row), row[0] if len(row) % 2 else []]

    found = Scorer(0, 2000, some).score(llama, QUESTIONS[:8])
    assert len(found.table) == 8


def test_every_metric_sees_in_batches_what_it_sees_in_a_plain_pass(llama: Any) -> None:
    """In 32 bit on a CPU every row counts alike, and no number differs by more than rounding."""
    from finetune_trainer.evaluation.likelihood import whole_sequences
    from finetune_trainer.evaluation.precision import Precision
    from finetune_trainer.evaluation.scoring import Scorer

    metrics = scored(METRICS.values())
    assert {"Accuracy", "LetterAccuracy", "SumAccuracy", "CalibrationError"} < {metric.name for metric in metrics}
    keyed = [replace(one, keys=[[5 + at] for at in range(len(one.responses))]) for one in QUESTIONS]

    def all_margins(question: Question, row: list[list[float]]) -> list[list[float]]:
        return [metric.margin(question, question.group_of(metric.needs, row)) for metric in metrics]

    table = Scorer(0, 2000, all_margins, Precision(settle_near_ties=False)).score(llama, keyed).table
    for question, row in zip(keyed, table, strict=True):
        (plain,) = whole_sequences(llama, [question], 0)
        for metric in metrics:
            seen, expected = (
                metric.document(question, metric.row(question, question.group_of(metric.needs, values)))
                for values in (row, plain)
            )
            assert seen == pytest.approx(expected, abs=2e-4), metric.name
