"""What can be had on held-out rows without a model, and what to know of rows that give it away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.base import cut
from finetune_api.results import Advice
from finetune_trainer.data.example import Choices, Example

_MAX_LETTER = 16


@dataclass(frozen=True)
class Baselines:
    """Shares of rows with options that are right without looking at the question."""

    guessing: float  # expected, when each option is as likely as another
    letter: str  # that is right most often, the first of these
    always_letter: float  # for who always says so


def baselines(examples: Sequence[Example]) -> Baselines | None:
    """The baselines of the rows with options; None where there are none."""
    choices = [example.choices for example in examples if example.choices]
    if not choices:
        return None
    counts = Counter(one.options[one.right].letter for one in choices)
    letter = min(counts, key=lambda one: (-counts[one], one))
    # A repeated text is right wherever it stands.
    right = [any(one.is_right(index) for index in _under(one, letter)) for one in choices]
    return Baselines(math.fsum(map(_guessing, choices)) / len(choices), letter, sum(right) / len(choices))


def baselines_document(found: Baselines) -> dict[str, Any]:
    """The same for report.json."""
    always = {"letter": found.letter, "share": round(found.always_letter, 6)}
    return {"guessing": round(found.guessing, 6), "mostFrequentLetter": always}


def baselines_line(found: Baselines) -> str:
    """The same for the log."""
    return (
        f"without a model: guessing is right in {found.guessing:.3f} of the rows, always saying "
        f"{cut(found.letter, _MAX_LETTER)} in {found.always_letter:.3f}"
    )


def rows_advice(examples: Sequence[Example]) -> Iterator[Advice]:
    """What to know of rows whose answers can be told without reading the questions."""
    found = baselines(examples)
    if found is None:
        return
    count = sum(example.choices is not None for example in examples)
    if found.always_letter == 1 and count > 1:
        yield Advice(
            reason="OneRightLetter",
            message=f"{cut(found.letter, _MAX_LETTER)} is right in all {count} held-out rows: a model that always says "
            "so has an accuracy of 1, so that accuracies tell nothing here; shuffle the options of the rows, and look "
            "whether columns.answerKey names the right column",
        )
    repeated = sum(bool(example.choices and _repeats_right(example.choices)) for example in examples)
    if repeated:
        yield Advice(
            reason="RepeatedOptions",
            message=f"the right option's text stands more than once among the options of {repeated} of {count} "
            "held-out rows, and counts as right wherever it is chosen: accuracies are too good; mend the options",
        )


def _under(choices: Choices, letter: str) -> list[int]:
    return [index for index, option in enumerate(choices.options) if option.letter == letter]


def _guessing(choices: Choices) -> float:
    return sum(map(choices.is_right, range(len(choices.options)))) / len(choices.options)


def _repeats_right(choices: Choices) -> bool:
    return sum(map(choices.is_right, range(len(choices.options)))) > 1
