"""Multiple-choice questions as token ids, and how they share a batch. No tensor in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Choices, Example


class Group(StrEnum):
    """What of a question a metric wants scored, each as a continuation of the prompt."""

    RESPONSES = "responses"  # the filled response template of each option, with its terminator
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
    """A row as token ids. Both groups are in the order of the options; one that no metric wants is empty."""

    prompt: list[int]
    responses: list[list[int]]
    keys: list[list[int]]
    terminator_length: int  # tokens at the end of each response that end the turn
    choices: Choices = field(repr=False)

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


def make_questions(examples: Sequence[Example], chat: ChatFormat, groups: set[Group]) -> list[Question]:
    """Tokenises rows that have choices with the chat format that training used.

    A key is tokenised as an answer that consists of it, so that a tokenizer that puts a space first does so here, too.
    """
    prompts = chat.prompt_ids([example.prompt for example in examples])
    end = len(chat.terminator_ids)
    questions = []
    for example, prompt in zip(examples, prompts, strict=True):
        choices = example.choices
        assert choices, "only rows with choices are scored"
        options = choices.options
        responses = chat.response_ids([option.response for option in options]) if Group.RESPONSES in groups else []
        keys = chat.response_ids([option.letter for option in options]) if Group.KEYS in groups else []
        questions.append(Question(prompt, responses, [ids[: len(ids) - end] for ids in keys], end, choices))
    return questions


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
