"""Scores questions in batches, and decides near-ties as a plain pass over one row at a time does.

What a model computes depends a little on the shape of its batch. Where two options lie closer than that, the choice
would, too. So some rows are passed plainly as well: from them comes how large the difference is on this device, and
every row whose best options lie within it takes the plain pass's likelihoods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from finetune_trainer.evaluation.batching import in_batches
from finetune_trainer.evaluation.likelihood import Way, has_repeatable_cache, shared_prompts, whole_sequences
from finetune_trainer.evaluation.outcome import Agreement, Scores, Table
from finetune_trainer.evaluation.precision import PRECISION, Precision, wide_head
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say

# Rows that are passed plainly whatever their scores are. On a CPU, in 32 bit, they only watch over the batches.
CHECKED_ROWS = {"cuda": 32, "cpu": 2}
# A row is a near-tie within this many standard deviations of the difference between batch and plain pass, as
# tests/gpu/RESULTS.md was measured. Rounding in half precision has longer tails than a normal distribution …
_DEVIATIONS = 5.0
# … or within this many nats: rounding in 32 bit.
_LEAST_MARGIN = 1e-4
# The share of rows that are settled at most, the closest first: a model that guesses has near-ties everywhere.
_MOST_SETTLED = 0.4
# Mean difference of a token's log-likelihood in nats above which a batch is wrong, not merely rounded.
_WRONG = {torch.float32: 1e-3}
_WRONG_IN_HALF = 0.25

# Scores of which the largest decides, a list per metric; empty where it has nothing to decide on the question.
Margins = Callable[[Question, list[list[float]]], list[list[float]]]


class NotFiniteError(ArithmeticError):
    """A model's likelihoods are NaN or infinite, so that no option is likelier than another."""


@dataclass(frozen=True)
class Scorer:
    """Scores questions with a model."""

    pad_id: int
    token_budget: int
    margins: Margins
    precision: Precision = PRECISION

    def score(
        self, model: CausalLM, questions: Sequence[Question], on_scored: Callable[[int], None] = lambda count: None
    ) -> Scores:
        """Scores all questions, in their order. ``on_scored`` gets the number of each batch's rows.

        Raises NotFiniteError when a likelihood is not finite, torch.OutOfMemoryError when one question alone is too
        large.
        """
        with wide_head(model, self.precision):
            checked = spread(len(questions), CHECKED_ROWS["cuda" if model.device.type == "cuda" else "cpu"])
            plain = self._plain(model, [questions[index] for index in checked])
            way = self._way(model, [questions[index] for index in checked], plain)
            table = self._in_batches(way, model, questions, on_scored)
            return self._settle(model, questions, table, dict(zip(checked, plain, strict=True)), way)

    def _way(self, model: CausalLM, questions: Sequence[Question], plain: Table) -> Way:
        """Shared prompts where the model's cache can be repeated and gives what a plain pass gives."""
        if not has_repeatable_cache(model):
            say("the model keeps states that can't be shared between options: scoring whole sequences")
            return whole_sequences
        found = self._in_batches(shared_prompts, model, questions)
        error = _mean_difference(found, plain)
        if error <= _WRONG.get(model.dtype, _WRONG_IN_HALF):
            return shared_prompts
        say(f"shared prompts differ from whole ones by {error:.3g} nats a token: scoring whole sequences")
        return whole_sequences

    def _in_batches(
        self,
        way: Way,
        model: CausalLM,
        questions: Sequence[Question],
        on_scored: Callable[[int], None] = lambda count: None,
    ) -> Table:
        def run(batch: list[int]) -> Table:
            found = way(model, [questions[index] for index in batch], self.pad_id)
            _check_finite(found)
            on_scored(len(batch))
            return found

        return in_batches(run, [question.size for question in questions], self.token_budget)

    def _plain(self, model: CausalLM, questions: Sequence[Question]) -> Table:
        table = [self._plain_row(model, question) for question in questions]
        _check_finite(table)
        return table

    def _plain_row(self, model: CausalLM, question: Question) -> list[list[float]]:
        """One row by itself: its responses padded to each other alone, its keys from the prompt where they are tokens.

        Beside the responses, keys would be padded to their length, and that decides near-ties, too.
        """
        responses, keys = replace(question, keys=[]), replace(question, responses=[])
        way = shared_prompts if all(len(ids) == 1 for ids in keys.continuations) else whole_sequences
        return [
            *(whole_sequences(model, [responses], self.pad_id)[0] if responses.continuations else []),
            *(way(model, [keys], self.pad_id)[0] if keys.continuations else []),
        ]

    def _settle(
        self,
        model: CausalLM,
        questions: Sequence[Question],
        table: Table,
        plain: dict[int, list[list[float]]],
        way: Way,
    ) -> Scores:
        """Puts the plain pass's likelihoods in place where they may decide otherwise."""
        before = [self.margins(question, row) for question, row in zip(questions, table, strict=True)]
        limits = _limits([(before[index], self.margins(questions[index], row)) for index, row in plain.items()])
        ties = [(_closeness(scores, limits), index) for index, scores in enumerate(before)]
        near = sorted((closeness, index) for closeness, index in ties if closeness < 1)
        near = near[: math.ceil(_MOST_SETTLED * len(questions))]
        seen = {index for _, index in near}
        others = sorted(seen - set(plain)) if self.precision.settle_near_ties else []
        settled = dict(zip(others, self._plain(model, [questions[index] for index in others]), strict=True))

        def turned(rows: dict[int, list[list[float]]]) -> list[int]:
            return [index for index, row in rows.items() if _differ(before[index], self.margins(questions[index], row))]

        different = turned(plain)
        agreement = Agreement(
            checked=len(plain),
            different=len(different),
            missed=len(set(different) - seen),
            settled=len(settled),
            changed=len(turned(settled)),
            way="SharedPrompts" if way is shared_prompts else "WholeSequences",
        )
        replaced = {**plain, **settled} if self.precision.settle_near_ties else {}
        return Scores([replaced.get(index, row) for index, row in enumerate(table)], agreement)


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` indices, evenly spread."""
    wanted = min(count, wanted)
    return [index * count // wanted for index in range(wanted)]


def _check_finite(table: Table) -> None:
    if not all(math.isfinite(value) for row in table for values in row for value in values):
        raise NotFiniteError


def _mean_difference(found: Table, plain: Table) -> float:
    pairs = [
        abs(one - other)
        for first, second in zip(found, plain, strict=True)
        for these, those in zip(first, second, strict=True)
        for one, other in zip(these, those, strict=True)
    ]
    return math.fsum(pairs) / len(pairs) if pairs else 0.0


def _limits(pairs: Sequence[tuple[list[list[float]], list[list[float]]]]) -> list[float]:
    """How close two scores must be for batch and plain pass to decide otherwise, for each metric.

    Each has its own: a mean over tokens varies less than a single token does.
    """
    columns = zip(*(zip(before, after, strict=True) for before, after in pairs), strict=True)
    return [max(_LEAST_MARGIN, _DEVIATIONS * _deviation(column)) for column in columns]


def _deviation(pairs: Iterable[tuple[list[float], list[float]]]) -> float:
    """The standard deviation of what batch and plain pass make of the distance between two options."""
    squares = [
        ((these[one] - these[0]) - (those[one] - those[0])) ** 2
        for these, those in pairs
        for one in range(1, len(these))
        if all(map(math.isfinite, (these[0], these[one], those[0], those[one])))
    ]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else 0.0


def _closeness(scores: list[list[float]], limits: list[float]) -> float:
    """The least distance of a best score from the next, in limits of its metric."""
    tops = ((sorted(values, reverse=True), limit) for values, limit in zip(scores, limits, strict=True))
    return min(((top[0] - top[1]) / limit for top, limit in tops if len(top) > 1), default=math.inf)


def _differ(before: list[list[float]], after: list[list[float]]) -> bool:
    pairs = zip(before, after, strict=True)
    return any(these.index(max(these)) != those.index(max(those)) for these, those in pairs if these)
