"""Multiple-choice questions as token ids, and what a model makes of them. No tensor in sight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_trainer.data.chat_template import ChatFormat
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, prompt_of, response_of


class NotFiniteError(ArithmeticError):
    """A model's likelihoods are NaN or infinite, so that no option is likelier than another."""


@dataclass(frozen=True)
class Size:
    """Tokens of a question, or of the padded shape of a batch's questions: each option has a prompt of its own."""

    prompt: int
    response: int  # the longest
    options: int = 1

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.options * (self.prompt + self.response)

    def padded_with(self, other: Size) -> Size:
        """The smallest shape that holds either."""
        return Size(
            max(self.prompt, other.prompt), max(self.response, other.response), max(self.options, other.options)
        )


@dataclass(frozen=True)
class Question:
    """A row as token ids."""

    prompt: list[int]
    responses: list[list[int]]  # the filled response template of each option, with its terminator
    terminator_length: int  # tokens at the end of each response that end the turn
    letters: list[int]  # the token that each option's letter begins with
    right: int  # index of the right option

    @property
    def size(self) -> Size:
        """What it takes in a batch."""
        return Size(len(self.prompt), max(map(len, self.responses)), len(self.responses))


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


def make_score(question: Question, letters: list[float], log_likelihoods: list[list[float]]) -> Score:
    """A model's score from its log-likelihoods of the letters and of each token of each response.

    Raises NotFiniteError when one of them is not finite.
    """
    if not all(math.isfinite(value) for values in [letters, *log_likelihoods] for value in values):
        raise NotFiniteError
    by_option = option_scores(question.responses, log_likelihoods, question.terminator_length)
    right = log_likelihoods[question.right]
    return Score(
        option=by_option.index(max(by_option)),
        letter=letters.index(max(letters)),
        right_log_likelihood=sum(right),
        right_tokens=len(right),
    )


def longest_first(sizes: list[Size]) -> list[int]:
    """Indices in the order in which questions of similar size meet."""
    return sorted(range(len(sizes)), key=lambda index: (-sizes[index].tokens, index))


def first_batch(order: list[int], sizes: list[Size], token_budget: int) -> tuple[list[int], int]:
    """The indices at the head of ``order`` that fit into one padded batch of ``token_budget``, and its tokens.

    One question stands there in any case, even when it is larger than the budget.
    """
    padded = sizes[order[0]]
    count = 1
    for index in order[1:]:
        grown = padded.padded_with(sizes[index])
        if (count + 1) * grown.tokens > token_budget:
            break
        padded, count = grown, count + 1
    return order[:count], count * padded.tokens
