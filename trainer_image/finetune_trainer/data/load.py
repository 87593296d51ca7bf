"""The held-out rows as Examples, each of them checked, and the digest that tells one dataset from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune_api.dataset import Dataset, datasets_of
from finetune_api.filters import FiltersSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.duplicates import Compared, Overlap
from finetune_trainer.data.example import Example
from finetune_trainer.data.pipeline import Counts, Shape, check_malformed, parsed_rows
from finetune_trainer.data.row_facts import OverlapFacts
from finetune_trainer.sources.rows import RowSource
from finetune_trainer.stage.failure import StageError

# A score over fewer rows than were meant is another score.
_NONE_MALFORMED = FiltersSpec(max_malformed="0")


@dataclass(frozen=True)
class Rows:
    """The rows of one split."""

    examples: list[Example]
    sha256: str  # of what the rows hold, in order
    name: str
    field: str  # of the spec, for messages


def load_examples(source: RowSource, rows: Shape, labels: Sequence[str] = ()) -> Rows:
    """Reads and checks the rows of a source, in a format with its columns and templates.

    ``labels`` are further columns, whose values the rows carry along; they are not part of the digest.

    Raises StageError: DatasetNotFound for a source that isn't there, DatasetInvalid when a row can't be used.
    """
    counts, digest = Counts(), hashlib.sha256()
    examples = list(parsed_rows(source, rows, counts, rows.max_examples, labels))
    check_malformed(counts, _NONE_MALFORMED, source.name, "mend the named row, or name the right columns")
    for example in examples:
        digest.update(example.sha256.encode())
    return Rows(examples, digest.hexdigest(), source.name, source.field)


def overlap_facts(overlap: Overlap) -> OverlapFacts:
    """What was found of held-out rows among the training rows, for good."""
    return OverlapFacts(
        held_out=len(overlap.held_out),
        exact=len(overlap.exact),
        near=len(overlap.near),
        pairs=overlap.pairs(),
        are_the_same_rows=overlap.are_the_same_rows,
    )


def find_overlap(dataset: Dataset, sources: Mapping[str, RowSource], held_out: Rows) -> OverlapFacts:
    """Compares held-out rows with all training rows, without making tokens of them."""
    overlap = Overlap(held_out.examples)
    for name, rows in datasets_of(dataset).items():
        for example in parsed_rows(sources[name], rows, Counts(), rows.max_examples):
            overlap.see(Compared(example))
    return overlap_facts(overlap)


def check_overlap(found: OverlapFacts, held_out: Rows, filters: FiltersSpec) -> None:
    """Raises StageError (DatasetInvalid) when too many held-out rows are trained on: such a score says nothing."""
    if found.are_the_same_rows:
        raise StageError(
            Reason.DATASET_INVALID,
            f"{held_out.field} holds the very rows that are trained on ({held_out.name}, {found.held_out:,} rows)",
            f"name another file or split in {held_out.field}; a split chooses among the files of a folder or of a hub "
            "dataset, not within a file",
        )
    allowed = float(filters.max_overlap)
    if found.near > allowed * found.held_out:
        raise StageError(
            Reason.DATASET_INVALID,
            f"{found.near:,} of {found.held_out:,} held-out rows of {held_out.name} ({found.near / found.held_out:.1%})"
            f" ask what a training row asks, at most {allowed:.1%} may; such as {'; '.join(found.pairs[:3])}",
            "take those rows out of the training rows, name another split, or raise spec.dataset.filters.maxOverlap",
        )
