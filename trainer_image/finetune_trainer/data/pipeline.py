"""The preparation of training rows: one pass, in bounded memory, with a count at each step.

read → parse → malformed rows out → duplicates out → token ids → rows that are too long out → token store. Of a row
nothing but its token ids, its digests and its counts outlives the pass.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from pydantic.alias_generators import to_camel

from finetune_api.dataset import Dataset, datasets_of
from finetune_api.filters import FiltersSpec
from finetune_api.held_out import HeldOut
from finetune_api.mixture import Mixture
from finetune_api.reasons import Reason
from finetune_api.replay import Replay
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.duplicates import NAMED, Compared, Duplicates, Overlap, said
from finetune_trainer.data.example import Example, MalformedRow
from finetune_trainer.data.formats import optional_columns, parse_row
from finetune_trainer.data.row_facts import UNKNOWN, KeptRow, RowFacts, SourceFacts
from finetune_trainer.data.token_store import Origin, TokenWriter
from finetune_trainer.data.tokenize import (
    NO_RESPONSE,
    TOO_LONG,
    LossOn,
    Tokenised,
    check_labels,
    sample_text,
    tokenise,
)
from finetune_trainer.sources.raw_rows import UnreadableRow
from finetune_trainer.sources.rows import RowSource
from finetune_trainer.stage.failure import StageError

MALFORMED, NOT_SAMPLED, SET_ASIDE = "Malformed", "NotSampled", "SetAside"
# What one pass reads of one dataset without being asked for fewer.
MOST_ROWS = 5_000_000
_BATCH = 256
# Of the answers that rows give, so many different ones are counted before they count as free text.
_ANSWERS = 64
_LONGEST_ANSWER = 80
_FIRST_ROWS = 8
_UNFIT = {TOO_LONG: "longer than the model takes", NO_RESPONSE: "no response that the loss sees"}

Shape = Dataset | Mixture | Replay | HeldOut
Tokens = Tokenised | MalformedRow


@dataclass(frozen=True)
class Reading:
    """How token ids are made of rows."""

    chat: ChatFormat
    limit: int  # tokens that a row may have
    loss_on: LossOn
    context: int | None = None  # of the model, where it names one
    threads: int = 1  # that tokenise


@dataclass
class Counts:
    """What became of the rows of one dataset so far."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    malformed: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    answers: set[str] = field(default_factory=set)
    has_few_answers: bool = True

    def drop(self, kind: str, named: list[str], words: str) -> None:
        """Counts a row that is left out, and names it if it is one of the first."""
        self.dropped[kind] += 1
        if len(named) < NAMED:
            named.append(words)


def run_pipeline(
    dataset: Dataset, sources: Mapping[str, RowSource], reading: Reading, overlap: Overlap, writer: TokenWriter
) -> RowFacts:
    """Prepares the rows of all datasets.

    Raises StageError: DatasetInvalid where more rows are malformed or too long than the filters allow, or none is left.
    """
    shapes = datasets_of(dataset)
    state = _Pass(reading, Duplicates(dataset.filters.deduplication), overlap, writer)
    facts = [state.take(name, shapes[name], source, dataset.filters) for name, source in sources.items()]
    return RowFacts(
        sha256=state.digest.hexdigest(),
        sources=facts,
        provenances=list(state.provenances),
        answers=list(state.answers),
        first=state.first,
        sample=state.sample,
    )


def parsed_rows(
    source: RowSource, shape: Shape, counts: Counts, most: int | None = None, labels: Sequence[str] = ()
) -> Iterator[Example]:
    """The rows that can be used as they stand, at most so many; the others are counted and named.

    ``labels`` are columns whose values they carry along.

    Raises StageError (DatasetInvalid) for more rows than one pass takes, and for a column that no row has.
    """
    seen: dict[str, str] = {}
    taken, missing = 0, optional_columns(shape)
    if not hasattr(shape, "provenance"):  # of held-out rows nobody counts it
        missing.pop("provenance", None)
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
            example = parse_row(raw, shape, where, labels)
            if example.id is not None and (earlier := seen.setdefault(example.id, where)) != where:
                raise MalformedRow(
                    f"{where}: column {shape.columns.id!r}: {example.id!r} names {earlier}, too: give each row its own"
                )
        except MalformedRow as error:
            counts.drop(MALFORMED, counts.malformed, str(error))
            continue
        if missing and isinstance(raw, Mapping):
            missing = {field: column for field, column in missing.items() if column not in raw}
        yield example
        taken += 1
        if taken == most:
            break
    if missing and taken:
        field, column = next(iter(missing.items()))
        raise StageError(
            Reason.DATASET_INVALID,
            f"no row of {source.name} has the column {column!r} that {source.field}.columns.{to_camel(field)} names",
            "name the right column, or leave it out",
        )


_MEND = "mend the named row, or name the right columns; spec.dataset.filters.maxMalformed sets the share"


def check_malformed(counts: Counts, filters: FiltersSpec, name: str, advice: str = _MEND) -> None:
    """Raises StageError (DatasetInvalid) when more rows are malformed than the filters allow, naming the first."""
    bad, allowed = counts.dropped[MALFORMED], float(filters.max_malformed)
    if not counts.read:
        raise StageError(
            Reason.DATASET_INVALID, f"{name} has no rows", "write rows into it, or name another file or split"
        )
    if bad and (bad == counts.read or bad > allowed * counts.read):
        share = f"{bad:,} of {counts.read:,} rows of {name} can't be used ({bad / counts.read:.1%})"
        share += f", at most {allowed:.1%} may" if allowed else ""
        text = counts.malformed[0] if counts.read == 1 else f"{counts.malformed[0]}; {share}"
        raise StageError(Reason.DATASET_INVALID, text, advice)


class _Pass:
    """What goes through all datasets."""

    def __init__(self, reading: Reading, duplicates: Duplicates, overlap: Overlap, writer: TokenWriter) -> None:
        self._reading, self._duplicates, self._overlap, self._writer = reading, duplicates, overlap, writer
        self.digest = hashlib.sha256()
        self.provenances: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self.first: list[KeptRow] = []
        self.sample = ""
        self._read = self._kept = self._largest = 0
        # Of rows that were kept, while repeats of them are still to be named.
        self._places: dict[int, str] = {}
        self._named = 0

    def take(
        self, name: str, shape: Dataset | Mixture | Replay, source: RowSource, filters: FiltersSpec
    ) -> SourceFacts:
        """Prepares the rows of one dataset."""
        counts = Counts()
        examples = self._without_repeats(parsed_rows(source, shape, counts, shape.max_examples), counts)
        for batch, tokens in _tokenised(examples, self._reading):
            self._write(batch, tokens, counts)
        check_malformed(counts, filters, source.name)
        _check_lengths(counts, filters, source, self._reading.limit)
        return SourceFacts(
            name=name,
            source=source.name,
            field=source.field,
            read=counts.read,
            kept=counts.kept,
            dropped=dict(counts.dropped),
            malformed=counts.malformed,
            repeats=counts.repeats,
            unfit=counts.unfit,
            has_few_answers=counts.has_few_answers,
        )

    def _without_repeats(self, examples: Iterable[Example], counts: Counts) -> Iterator[Example]:
        for example in examples:
            self.digest.update(example.sha256.encode())
            row, number = Compared(example), self._read
            self._read += 1
            self._overlap.see(row)
            repeat = self._duplicates.find(row, number)
            if repeat is None:
                if self._named < NAMED:
                    self._places[number] = example.where
                yield example
                continue
            earlier = self._places.get(repeat.of, "an earlier row")
            counts.drop(repeat.kind, counts.repeats, f"{example.where} repeats {earlier}")
            self._named += 1

    def _write(self, batch: Sequence[Example], tokens: Sequence[Tokens], counts: Counts) -> None:
        chat = self._reading.chat
        if not self.first:
            made = [
                (example, found) for example, found in zip(batch, tokens, strict=True) if isinstance(found, Tokenised)
            ]
            first = made[:_FIRST_ROWS]
            check_labels([one for one, _ in first], [found for _, found in first], chat, self._reading.loss_on)
        for example, found in zip(batch, tokens, strict=True):
            if isinstance(found, MalformedRow):
                counts.drop(MALFORMED, counts.malformed, f"{example.where}: {found}")
                continue
            if found.problem:
                counts.drop(found.problem, counts.unfit, f"{example.where}: {_UNFIT[found.problem]}")
                continue
            self._check_ids(max(max(row.input_ids) for row in found.rows))
            if len(self.first) < _FIRST_ROWS:
                self.first.append(KeptRow.of(example))
            self.sample = self.sample or sample_text(found.rows[0], chat)
            provenance = self.provenances.setdefault(example.provenance or UNKNOWN, len(self.provenances))
            self._writer.write(found.rows, Origin(self._kept, provenance, self._answer(example, counts)))
            self._kept += 1
            counts.kept += 1

    def _check_ids(self, largest: int) -> None:
        if largest > self._largest:
            self._largest = largest
            self._reading.chat.check_embedding(largest, f"token {self._reading.chat.decode([largest])!r}")

    def _answer(self, example: Example, counts: Counts) -> int:
        """The number of what a row answers, while a dataset's answers are few; else -1."""
        choices = example.choices
        answer = choices.options[choices.right].letter if choices else said(example)
        if not answer or len(answer) > _LONGEST_ANSWER or len(counts.answers | {answer}) > _ANSWERS:
            counts.has_few_answers = False
        if not counts.has_few_answers:
            return -1
        counts.answers.add(answer)
        return self.answers.setdefault(answer, len(self.answers))


def _tokens(batch: Sequence[Example], reading: Reading) -> list[Tokens]:
    """Token ids of each row, or why one can't be had. Such a row is found by tokenising each by itself."""
    try:
        return list(tokenise(batch, reading.chat, reading.limit, reading.loss_on))
    except MalformedRow as error:
        if len(batch) == 1:
            return [error]
        return [found for example in batch for found in _tokens([example], reading)]


def _tokenised(examples: Iterator[Example], reading: Reading) -> Iterator[tuple[list[Example], list[Tokens]]]:
    """Batches with their token ids, in order. Threads tokenise, which frees the interpreter to read on."""
    waiting: deque[tuple[list[Example], Future[list[Tokens]]]] = deque()
    with ThreadPoolExecutor(reading.threads) as threads:
        try:
            while batch := list(islice(examples, _BATCH)):
                task = threads.submit(_tokens, batch, reading)
                waiting.append((batch, task))
                if len(waiting) > reading.threads + 1:  # each has one, and finds the next
                    done, tokens = waiting.popleft()
                    yield done, tokens.result()
            while waiting:
                done, tokens = waiting.popleft()
                yield done, tokens.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _check_lengths(counts: Counts, filters: FiltersSpec, source: RowSource, limit: int) -> None:
    too_long, mute = counts.dropped[TOO_LONG], counts.dropped[NO_RESPONSE]
    reached, allowed = counts.kept + too_long + mute, float(filters.max_too_long)
    if not reached or (counts.kept and too_long + mute <= allowed * reached):
        return
    if mute > too_long:
        raise StageError(
            Reason.DATASET_INVALID,
            f"{mute:,} of {reached:,} rows of {source.name} have no response that the loss would see; at most "
            f"{allowed:.0%} of rows may be dropped; the first: {counts.unfit[0]}",
            "check the rows' train flags and spec.training.lossOn",
        )
    raise StageError(
        Reason.DATASET_INVALID,
        f"{too_long:,} of {reached:,} training rows of {source.name} are longer than {limit} tokens, "
        "spec.model.maxSequenceLength or the model's context, and would lose their response; at most "
        f"{allowed:.0%} may be dropped",
        "raise maxSequenceLength, shorten the rows, or take a model with a longer context",
    )
