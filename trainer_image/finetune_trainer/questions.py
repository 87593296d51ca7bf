"""Multiple-choice questions as token ids, and what a model makes of them. No tensor in sight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finetune_trainer.chat import ChatFormat
from finetune_trainer.rows import ChoiceRow, prompt_of, response_of


@dataclass(frozen=True)
class Question:
    """A row as token ids."""

    prompt: list[int]
    responses: list[list[int]]  # the filled response template of each option, with its terminator
    terminator_length: int  # tokens at the end of each response that end the turn
    letters: list[int]  # the token that each option's letter begins with
    right: int  # index of the right option


@dataclass(frozen=True)
class Score:
    """What one model makes of one question. Likelihoods are natural logarithms."""

    option: int  # the likeliest option, see :func:`option_scores`
    letter: int  # the likeliest letter as the first token of the answer
    right_log_likelihood: float  # of the right response with its terminator, as the training loss counts it
    right_tokens: int


def make_questions(
    rows: list[ChoiceRow], prompt_template: str, response_template: str, chat: ChatFormat
) -> list[Question]:
    """Tokenises rows with the templates and the chat format that training used."""
    prompts = chat.prompt_ids([prompt_of(row, prompt_template) for row in rows])
    terminator_length = len(chat.response_ids([""])[0])
    questions = []
    for row, prompt in zip(rows, prompts, strict=True):
        responses = chat.response_ids([response_of(row, response_template, letter) for letter in row.options])
        letters = [ids[0] for ids in chat.response_ids(list(row.options))]
        right = list(row.options).index(row.letter)
        questions.append(Question(prompt, responses, terminator_length, letters, right))
    return questions


def option_scores(
    responses: list[list[int]], log_likelihoods: list[list[float]], terminator_length: int
) -> list[float]:
    """Mean log-likelihood per token of each option's response, where the options differ.

    Left out are the tokens that all responses begin with: they are equally likely under each, and dividing them by
    different lengths would favour long options. Left out is the terminator, too, which says nothing of the option.
    ``log_likelihoods`` has one entry per token, in the shape of ``responses``.
    """
    ends = [len(response) - terminator_length for response in responses]
    shared = 0
    while shared < min(ends) - 1 and len({response[shared] for response in responses}) == 1:
        shared += 1
    return [sum(values[shared:end]) / (end - shared) for values, end in zip(log_likelihoods, ends, strict=True)]


def batches(lengths: list[int], token_budget: int) -> Iterator[list[int]]:
    """Groups indices by similar length, longest first, so that a padded batch has at most ``token_budget`` tokens.

    A sequence longer than the budget stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        size = max(1, token_budget // lengths[order[start]])
        yield order[start : start + size]
        start += size
