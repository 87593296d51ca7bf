"""The section of what was trained on."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_api.results import DatasetStatus
from finetune_trainer.page import charts_of_training as charts
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections.base import Section
from finetune_trainer.page.text import Excerpt, counted, excerpt, sentence, short, words

_SAMPLE = 1500
_MAX_NAMES = 8
_OPEN, _CLOSE = "⟦", "⟧"  # as dataset.json marks what the loss sees


def preparation(inputs: Inputs) -> Section | None:
    """How many rows each step of the preparation left, and one row as the model reads it."""
    dataset = inputs.dataset
    status = dataset.status if dataset else inputs.training.dataset if inputs.training else None
    if status is None:
        return None
    return Section(
        "preparation",
        "What it was trained on",
        {
            "drawings": [charts.funnel(_stages(status))],
            "facts": list(_facts(status)),
            "sample": excerpt(dataset.sample, _SAMPLE) if dataset and dataset.sample else Excerpt(""),
        },
    )


def _stages(status: DatasetStatus) -> list[tuple[str, int, int]]:
    left = status.rows
    stages = [("Read", left, 0)]
    for one in status.dropped:
        left = max(0, left - one.rows)
        stages.append((sentence(words(one.name)), left, one.rows))
    return [*stages, ("Trained on", left, 0)]


def _facts(status: DatasetStatus) -> Iterator[tuple[str, str]]:
    yield "Rows", short(status.summary, 80)
    if status.tokens:
        yield "Seen by the loss", f"{status.response_tokens:,} of {status.tokens:,} tokens"
    if lengths := status.lengths:
        yield (
            "Tokens of a row",
            f"median {lengths.median:,}, 95% at most {lengths.percentile95:,}, longest {lengths.longest:,}",
        )
    for name, counts in (("Mixture", status.sources), ("From", status.provenance)):
        if counts:
            yield name, ", ".join(f"{one.rows:,} {short(one.name, 40)}" for one in counts[:_MAX_NAMES])
    if status.validation_examples:
        yield "Validation", f"{counted(status.validation_examples, 'example')} whose loss was measured on the way"
    if status.overlap:
        yield "Overlap", f"{counted(status.overlap, 'held-out row')} ask what a training row asks, exactly or nearly"
