"""The preparation of training rows: one pass, in bounded memory, with a count at each step.

read → parse → malformed rows out → duplicates out → token ids → rows that are too long out → token store. Nothing of a
row but its token ids, its digests and its counts outlives the pass.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from finetune_api.dataset import MAIN, Dataset, FiltersSpec, Mixture
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.duplicates import Duplicates, Overlap, said
from finetune_trainer.data.example import Example, MalformedRow
from finetune_trainer.data.formats import parse_row
from finetune_trainer.data.token_store import TokenWriter
from finetune_trainer.data.tokenize import LossOn, TokenRow, sample_text, tokenise
from finetune_trainer.sources.files import UnreadableRow
from finetune_trainer.sources.rows import RowSource
from finetune_trainer.stage.failure import StageError

MALFORMED, NOT_SAMPLED = "Malformed", "NotSampled"
# What one pass reads of one dataset without being asked for fewer.
MOST_ROWS = 5_000_000
NAMED = 10  # rows that a report names of each kind
_BATCH = 256
# Of the answers that rows give, so many different ones are counted before they count as free text.
_ANSWERS = 64
_LONGEST_ANSWER = 80


@dataclass(frozen=True)
class Read:
    """How token ids are made of rows."""

    chat: ChatFormat
    limit: int  # tokens that a row may have
    loss_on: LossOn


@dataclass
class Counts:
    """What became of the rows of one dataset."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    malformed: list[str] = field(default_factory=list)  # the first, in words
    repeats: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    letters: Counter[str] = field(default_factory=Counter)  # of right options
    answers: Counter[str] = field(default_factory=Counter)  # of rows without options, while they are few
    has_free_text: bool = False  # whether they were too many
    provenance: list[str] = field(default_factory=list)  # of each kept row


@dataclass
class Passed:
    """What one pass over all datasets gave."""

    counts: dict[str, Counts]
    sha256: str  # of what the rows hold, as read, in order
    first_rows: dict[str, int]  # number of each dataset's first kept row
    overlap: Overlap
    sample: str  # a row as text, what the loss sees marked
    questions: frozenset[bytes]  # of all rows that were read, to find the held-out rows that stand among them


def run_pipeline(
    dataset: Dataset, sources: Mapping[str, RowSource], read: Read, overlap: Overlap, writer: TokenWriter
) -> Passed:
    """Prepares the rows of all datasets.

    Raises StageError: DatasetInvalid where more rows are malformed or too long than the filters allow, or none is left.
    """
    filters = dataset.filters
    duplicates, digest = Duplicates(filters.deduplication), hashlib.sha256()
    state = _State(read, duplicates, overlap, writer, digest.update)
    shapes: dict[str, Dataset | Mixture] = {MAIN: dataset, **{one.name: one for one in dataset.mixture}}
    counts, first_rows = {}, {}
    for name, source in sources.items():
        first_rows[name] = state.kept
        counts[name] = _one_dataset(shapes[name], source, filters, state)
    return Passed(counts, digest.hexdigest(), first_rows, overlap, state.sample, frozenset(state.questions))


class _State:
    """What goes through all datasets."""

    def __init__(self, read: Read, duplicates: Duplicates, overlap: Overlap, writer: TokenWriter, digest: object) -> None:
        self.read, self.duplicates, self.overlap, self.writer = read, duplicates, overlap, writer
        self.digest = digest
        self.number = self.kept = 0
        self.sample = ""
        self.questions: set[bytes] = set()
        self.places: dict[int, str] = {}


def parsed_rows(
    source: RowSource, shape: object, counts: Counts, most: int | None
) -> Iterator[Example]:
    """The rows that can be used as they stand, at most so many; the others are counted and named."""
    seen: dict[str, str] = {}
    for where, raw in source.rows():
        counts.read += 1
        if counts.read > MOST_ROWS:
            raise StageError(
                Reason.DATASET_INVALID,
                f"{source.name} has more than {MOST_ROWS:,} rows",
                f"set {source.field}.maxExamples to take fewer, or split the dataset",
            )
        try:
            if isinstance(raw, UnreadableRow):
                raise MalformedRow(f"{where} {raw.problem}")
            example = parse_row(raw, shape, where)
            if example.id is not None and (earlier := seen.setdefault(example.id, where)) != where:
                raise MalformedRow(f"{where}: its id {example.id!r} is that of {earlier}: give each row its own")
        except MalformedRow as error:
            counts.dropped[MALFORMED] += 1
            if len(counts.malformed) < NAMED:
                counts.malformed.append(str(error))
            continue
        yield example
        most = None if most is None else most - 1
        if most == 0:
            return


def check_malformed(counts: Counts, filters: FiltersSpec, name: str) -> None:
    """Raises StageError (DatasetInvalid) when more rows are malformed than the filters allow, naming the first."""
    bad = counts.dropped[MALFORMED]
    if bad and (bad == counts.read or bad > float(filters.max_malformed) * counts.read):
        share = f"{bad} of {counts.read} rows of {name} can't be used, at most {float(filters.max_malformed):.0%} may be"
        raise StageError(
            Reason.DATASET_INVALID, counts.malformed[0] if counts.read == 1 else f"{counts.malformed[0]} ({share})"
        )


def _one_dataset(shape: Dataset | Mixture, source: RowSource, filters: FiltersSpec, state: _State) -> Counts:
    counts = Counts()
    examples = _without_repeats(parsed_rows(source, shape, counts, shape.max_examples), counts, state)
    while batch := list(islice(examples, _BATCH)):
        _tokenise(batch, counts, state)
    check_malformed(counts, filters, source.name)
    if not counts.read:
        raise StageError(Reason.DATASET_INVALID, f"{source.name} has no rows")
    _check_lengths(counts, filters, source.name, state.read.limit)
    return counts


def _without_repeats(examples: Iterable[Example], counts: Counts, state: _State) -> Iterator[Example]:
    for example in examples:
        state.digest(example.sha256.encode())  # type: ignore[operator]
        state.number += 1
        state.overlap.see(example)
        if repeat := state.duplicates.find(example, state.number):
            counts.dropped[repeat.kind] += 1
            if len(counts.repeats) < NAMED:
                counts.repeats.append(f"{example.where} repeats {state.places.get(repeat.of, 'an earlier row')}")
            continue
        state.places[state.number] = example.where
        yield example


def _tokenise(batch: Sequence[Example], counts: Counts, state: _State) -> None:
    read = state.read
    for example, found in zip(batch, tokenise(batch, read.chat, read.limit, read.loss_on), strict=True):
        if found.problem:
            counts.dropped[found.problem] += 1
            if len(counts.too_long) < NAMED:
                counts.too_long.append(f"{example.where}: {found.problem}")
            continue
        if not state.sample:
            state.sample = sample_text(found.rows[0], read.chat)
        state.writer.write(found.rows, state.kept)
        state.kept += 1
        counts.kept += 1
        counts.provenance.append(example.provenance or "")
        _count_answer(example, counts)


def _count_answer(example: Example, counts: Counts) -> None:
    if example.choices:
        counts.letters[example.choices.options[example.choices.right].letter] += 1
    elif example.text is None and not counts.has_free_text:
        answer = said(example)
        if len(answer) <= _LONGEST_ANSWER and (answer in counts.answers or len(counts.answers) < _ANSWERS):
            counts.answers[answer] += 1
        else:
            counts.has_free_text = True
            counts.answers.clear()


def _check_lengths(counts: Counts, filters: FiltersSpec, name: str, limit: int) -> None:
    lost = {kind: counts.dropped[kind] for kind in ("TooLong", "NoResponse") if counts.dropped[kind]}
    reached = counts.kept + sum(lost.values())
    if not reached or sum(lost.values()) <= float(filters.max_too_long) * reached:
        return
    if lost.get("NoResponse", 0) > lost.get("TooLong", 0):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{lost['NoResponse']} of {reached} rows of {name} have no response that the loss would see",
            "check the rows' train flags and spec.training.lossOn",
        )
    raise StageError(
        Reason.DATASET_INVALID,
        f"{lost.get('TooLong', 0)} of {reached} training rows of {name} are longer than {limit} tokens, "
        "spec.model.maxSequenceLength or the model's context, and would lose their response; at most "
        f"{float(filters.max_too_long):.0%} may be dropped",
        "raise maxSequenceLength, shorten the rows, or take a model with a longer context",
    )


def row_texts(rows: Sequence[TokenRow], chat: ChatFormat) -> list[str]:
    """Rows as text, what the loss sees in double brackets."""
    return [sample_text(row, chat) for row in rows]
