"""LetterAccuracy: the option whose key is likeliest at the beginning of the answer, as benchmarks report it."""

from __future__ import annotations

import math

from finetune_trainer.evaluation.metrics.base import Likelihoods
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.questions import Group, Question


class LetterAccuracy(ChoiceMetric):
    """The probability that the answer begins with all tokens of a key, and with no longer key.

    For keys of one token that is the first token's. Keys may share tokens (``10`` and ``11``) and begin with one
    another (``1`` and ``10``): what is likely to go on as a longer key does not count for the shorter one.
    """

    name = "LetterAccuracy"
    label = "letter "
    definition = (
        "share of rows whose right letter (the option's key) is the likeliest beginning of the answer: log-likelihood "
        "of all of its tokens, without what goes on as a longer key of the row; rows whose keys have the same tokens "
        "don't count"
    )
    needs = Group.KEYS

    def why_not(self, question: Question) -> str | None:
        if question.choices is None:
            return super().why_not(question)
        keys = [tuple(key) for key in question.keys]
        letters = [option.letter for option in question.choices.options]
        for index, key in enumerate(keys):
            if not key:
                return f"the tokenizer has no token for the key {letters[index]}"
            if (first := keys.index(key)) < index:
                return f"the keys {letters[first]} and {letters[index]} have the same tokens"
        return None

    def scores(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        keys = question.keys
        totals = [math.fsum(values) for values in likelihoods]
        return [
            _log_difference(total, [totals[longer] for longer in _next_longer(keys, index)])
            for index, total in enumerate(totals)
        ]


def _next_longer(keys: list[list[int]], index: int) -> list[int]:
    """Keys that begin with a key, but not with another such key, so that their events don't overlap."""
    longer = [other for other, key in enumerate(keys) if _begins(key, keys[index])]
    return [other for other in longer if not any(_begins(keys[other], keys[between]) for between in longer)]


def _begins(key: list[int], beginning: list[int]) -> bool:
    return len(key) > len(beginning) and key[: len(beginning)] == beginning


def _log_difference(total: float, parts: list[float]) -> float:
    """log(exp(total) - sum of exp(parts)); minus infinity where rounding leaves nothing."""
    rest = 1.0 - math.fsum(math.exp(part - total) for part in parts)
    return total + math.log(rest) if rest > 0 else -math.inf
