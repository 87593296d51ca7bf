"""The rows of a dataset as Examples, each of them checked, and the digests that tell one dataset from another."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from finetune_api.base import sha256_of
from finetune_api.dataset import Dataset
from finetune_api.reasons import Reason
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats import format_of
from finetune_trainer.sources.dataset import DatasetSource, find_file
from finetune_trainer.sources.files import read_file
from finetune_trainer.sources.hub import hub_rows
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class Rows:
    """The rows of one split."""

    examples: list[Example]
    sha256: str  # of what the rows hold, in order
    name: str

    @property
    def questions(self) -> frozenset[str]:
        """Digests of what the rows ask, whatever their case and white space."""
        return frozenset(question_sha256(example) for example in self.examples)


def question_sha256(example: Example) -> str:
    """Digest of what a row asks, whatever its case, its white space and the encoding of its accents."""
    return sha256_of(" ".join(unicodedata.normalize("NFC", example.question).casefold().split()))


def load_examples(source: DatasetSource, dataset: Dataset) -> Rows:
    """Reads and checks all rows of a source, in the format, columns and templates of ``dataset``.

    Raises StageError: DatasetNotFound for a source that isn't there, DatasetInvalid for the first bad row.
    """
    name, rows = _raw_rows(source)
    reader, digest, examples = format_of(dataset), hashlib.sha256(), []
    for where, raw in rows:
        example = reader.parse(raw, dataset, where)
        examples.append(example)
        digest.update(example.sha256.encode())
    if not examples:
        raise StageError(Reason.DATASET_INVALID, f"{name} has no rows")
    return Rows(examples, digest.hexdigest(), name)


def _raw_rows(source: DatasetSource) -> tuple[str, Iterator[tuple[str, object]]]:
    """The rows' name for messages, and (place of the row, raw row) of each."""
    if source.repository:
        return f"{source.uri} {source.split}", hub_rows(source)
    path = find_file(source)
    rows = read_file(path, path.name, path.suffix)
    return path.name, ((f"{path.name} row {number}", raw) for number, raw in rows)


def shared_examples(training: Rows, held_out: Rows, field: str) -> int:
    """How many held-out rows ask what a training row asks.

    Raises StageError (DatasetInvalid) when both hold the same rows, in whatever order: such a score says nothing.
    ``field`` is the held-out dataset's, for the message.
    """
    if {example.sha256 for example in training.examples} == {example.sha256 for example in held_out.examples}:
        raise StageError(
            Reason.DATASET_INVALID,
            f"{field} holds the very rows that are trained on ({held_out.name} and {training.name}, "
            f"{len(held_out.examples)} rows)",
            f"name another file or split in {field}; a split chooses among the files of a folder or of a hub dataset, "
            "not within a file",
        )
    questions = training.questions
    return sum(question_sha256(example) in questions for example in held_out.examples)
