"""What is scored of held-out rows, as token ids, and how it shares a batch. No tensor in sight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Choices, Example
from finetune_trainer.data.held_out import scored_turns
from finetune_trainer.data.tokenize import LossOn, pair_ids


class Group(StrEnum):
    """What of a question a metric wants scored, each as a continuation of the prompt."""

    RESPONSES = "responses"  # the response with its terminator; of a row with options, that of each
    KEYS = "keys"  # each option's key (its letter), whole and without terminator


@dataclass(frozen=True)
class Size:
    """Tokens of a question, or of the padded shape of a batch's questions: each continuation has its prompt."""

    prompt: int
    continuation: int  # the longest
    continuations: int = 1

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.continuations * (self.prompt + self.continuation)

    def padded_with(self, other: Size) -> Size:
        """The smallest shape that holds either."""
        return Size(
            max(self.prompt, other.prompt),
            max(self.continuation, other.continuation),
            max(self.continuations, other.continuations),
        )


@dataclass(frozen=True)
class Question:
    """A response that is scored, as token ids: of a row with options, those of all options.

    A conversation has a question for each of its responses, a long document one for each window. Both groups are in the
    order of the options; keys that no metric wants are empty.
    """

    prompt: list[int]
    responses: list[list[int]]
    keys: list[list[int]]
    terminator_length: int  # tokens at the end of each response that end the turn
    choices: Choices | None = field(default=None, repr=False)
    row: int = 0  # which of the held-out rows it is of
    turn: Example = field(default=Example(), repr=False)  # that row, up to the response that is scored

    @property
    def right(self) -> int:
        """The index of the right response."""
        return self.choices.right if self.choices else 0

    @property
    def continuations(self) -> list[list[int]]:
        """All that is scored."""
        return [*self.responses, *self.keys]

    @property
    def size(self) -> Size:
        """What it takes in a batch."""
        return Size(len(self.prompt), max(map(len, self.continuations)), len(self.continuations))

    def group_of(self, group: Group, likelihoods: Sequence[list[float]]) -> Sequence[list[float]]:
        """The part of ``likelihoods``, one list per continuation, that belongs to a group."""
        count = len(self.responses)
        return likelihoods[:count] if group is Group.RESPONSES else likelihoods[count:]


def make_questions(
    examples: Sequence[Example],
    chat: ChatFormat,
    groups: set[Group],
    window: int | None = None,
    loss_on: LossOn = "Responses",
) -> list[Question]:
    """Tokenises rows with the chat format that training used; documents in windows of ``window`` tokens.

    The questions of a row stand together, in order; a document of a single token has none.
    """
    turns = [(row, turn) for row, example in enumerate(examples) for turn in scored_turns(example, loss_on)]
    with_choices = iter(_with_choices([turn for _, turn in turns if turn.choices], chat, groups))
    without = iter(pair_ids([turn for _, turn in turns if not turn.choices and turn.text is None], chat))
    end = len(chat.terminator_ids)
    questions = []
    for row, turn in turns:
        if turn.text is not None:
            found = [Question(*one, [], 0) for one in windows(chat.text_ids(turn.text, turn.ends), window)]
        elif turn.choices:
            found = [next(with_choices)]
        else:
            prompt, response = next(without)
            found = [Question(prompt, [response], [], end)]
        questions += [replace(question, choices=turn.choices, row=row, turn=turn) for question in found]
    return questions


def _with_choices(examples: Sequence[Example], chat: ChatFormat, groups: set[Group]) -> Iterator[Question]:
    """Questions with options.

    A key is tokenised as an answer that consists of it, so that a tokenizer that puts a space first does so here, too.
    """
    prompts = chat.prompt_ids([example.prompt for example in examples])
    end = len(chat.terminator_ids)
    for example, prompt in zip(examples, prompts, strict=True):
        options = example.choices.options if example.choices else ()
        responses = chat.response_ids([option.response for option in options]) if Group.RESPONSES in groups else []
        keys = chat.response_ids([option.letter for option in options]) if Group.KEYS in groups else []
        yield Question(prompt, responses, [ids[: len(ids) - end] for ids in keys], end)


def windows(ids: list[int], length: int | None) -> Iterator[tuple[list[int], list[list[int]]]]:
    """A document as pairs of a context and what is scored behind it, in which each token but the first stands once.

    As in lm-evaluation-harness's rolling log-likelihood with a context of one token: a window begins with the last
    token of the one before, and the last window is filled up with what stands before it.
    """
    length = max(2, len(ids) if length is None else length)
    for start in range(1, len(ids), length - 1):
        end = min(start + length - 1, len(ids))
        yield ids[max(0, end - length) : start], [ids[start:end]]


def answerable(questions: Sequence[Question]) -> list[int]:
    """Indices of the questions that may be answered in words: the last one of each row, none of documents."""
    return list(
        {question.row: index for index, question in enumerate(questions) if question.turn.text is None}.values()
    )


def longest_first(sizes: Sequence[Size]) -> list[int]:
    """Indices in the order in which questions of similar size meet."""
    return sorted(range(len(sizes)), key=lambda index: (-sizes[index].tokens, index))


def first_batch(order: Sequence[int], sizes: Sequence[Size], token_budget: int) -> tuple[list[int], int]:
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
    return list(order[:count]), count * padded.tokens
