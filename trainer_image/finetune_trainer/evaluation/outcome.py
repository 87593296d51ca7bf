"""What an evaluation found: likelihoods and answers of each model, before any metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetune_trainer.data.example import Example
from finetune_trainer.evaluation.answers import Reading
from finetune_trainer.evaluation.questions import Question, answerable

# Per question, per continuation, per token; natural logarithms.
Table = list[list[list[float]]]


@dataclass(frozen=True)
class Agreement:
    """Batches against plain passes over one row at a time, on the same model."""

    checked: int  # rows that were passed plainly whatever their scores, spread over all
    different: int  # of them, those that a batch decided otherwise
    missed: int  # of these, those that were not seen to be near-ties: the share that remains in all other rows
    settled: int  # further rows that were near-ties, and so decided by a plain pass
    changed: int  # of these, those that a batch had decided otherwise
    way: str  # how batches were passed: SharedPrompts or WholeSequences


@dataclass(frozen=True)
class Scores:
    """Log-likelihoods of each question's continuations, and how far they can be trusted."""

    table: Table
    agreement: Agreement


@dataclass(frozen=True)
class Generated:
    """What a model wrote."""

    text: str  # without special tokens and without what the template puts before an answer
    cut: bool  # whether it ended at the longest length, not by the model's own will
    reading: Reading | None = None  # which option it names; None where the row has no options


@dataclass(frozen=True)
class Latency:
    """How fast a model answers, one prompt at a time: medians over prompts."""

    precision: str  # of the base's weights, such as NF4
    first_token_seconds: float
    tokens_per_second: float  # of the tokens after the first


@dataclass(frozen=True)
class Side:
    """One model's part. The answers are those of the first of the questions that may be answered in words."""

    scores: Scores
    answers: Sequence[Generated]


@dataclass(frozen=True)
class Prompted:
    """A user's own prompt, answered by each model."""

    name: str | None
    text: str
    chat_template: str  # as in spec.evaluation.prompts
    tokens: int  # of the prompt
    answers: Mapping[str, Generated]  # by base and tuned


@dataclass(frozen=True)
class Outcome:
    """Both models on the same rows. ``base`` is None when the base model wasn't scored."""

    examples: Sequence[Example]
    questions: Sequence[Question]  # one or more of each row
    base: Side | None
    tuned: Side
    runtime_seconds: float
    samples: int = 0  # of the answers, how many are shown: the first ones
    latency: Mapping[str, Latency] = field(default_factory=dict)  # by Base, Tuned, Merged
    retention: Outcome | None = None  # the same of the retention rows
    reordered: Outcome | None = None  # the same rows with their options in another order, where a metric wants them
    slices: Mapping[str, Outcome] = field(default_factory=dict)  # the same of each slice's rows, by name
    prompts: Sequence[Prompted] = ()  # the user's own

    @property
    def sides(self) -> dict[str, Side]:
        """Those that were scored, by name."""
        return {"base": self.base, "tuned": self.tuned} if self.base else {"tuned": self.tuned}

    @property
    def answered(self) -> list[Question]:
        """The questions that were also answered in words, in the order of the answers."""
        return [self.questions[index] for index in self.answered_places]

    @property
    def answered_places(self) -> list[int]:
        """The indices of those questions."""
        return answerable(self.questions)[: len(self.tuned.answers)]
