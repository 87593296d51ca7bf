"""What is told of prepared rows: the section of status, dataset.json, and advice. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_api.base import cut, in_words
from finetune_api.replay import REPLAY
from finetune_api.results import Advice, DatasetStatus, RowCount, RowLengths
from finetune_trainer.data.duplicates import NEAR
from finetune_trainer.data.pipeline import MALFORMED, NOT_SAMPLED, SET_ASIDE
from finetune_trainer.data.row_facts import UNKNOWN, OverlapFacts, RowFacts
from finetune_trainer.data.token_store import Numbers, TokenStore
from finetune_trainer.data.tokenize import NO_RESPONSE, TOO_LONG

# The article that this follows advises 500 to 5,000 clean examples.
FEWEST, MOST = 500, 5000
# Who always gives this answer has so large a share right without having learned anything else.
_DOMINATING, _ENOUGH_ROWS = 0.6, 50
_MUCH = 0.2  # share of near duplicates that may be boilerplate instead
_MANY_TOO_LONG = 0.05
_MAX_NAMES = 8  # of provenance, in status
_EDGES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 2**31)


@dataclass(frozen=True)
class Balance:
    """How often each answer is given."""

    rows: int
    counts: Mapping[str, int]  # the most common first; empty where answers are free text


def dataset_status(
    facts: RowFacts,
    store: TokenStore,
    aside: TokenStore | None,
    overlap: OverlapFacts,
    is_mixture: bool,
    cached: bool,
    uri: str | None,
) -> DatasetStatus:
    """The section of status. ``store`` holds the rows that are trained on, ``aside`` those set aside for validation."""
    lengths, read = store.lengths, sum(one.read for one in facts.sources)
    tokens, trained = int(lengths.sum()), trained_rows(facts, store)
    dropped = {kind: rows for kind, rows in left_out(facts, store, aside).items() if rows}
    return DatasetStatus(
        summary=f"{sum(trained.values()):,} of {read:,} rows, {short(tokens)} tokens",
        rows=read,
        examples=len(store),
        tokens=tokens,
        response_tokens=int(store.response_lengths.sum()),
        lengths=RowLengths(
            median=int(np.median(lengths)), percentile95=int(np.percentile(lengths, 95)), longest=store.longest
        ),
        dropped=_counts(dropped),
        sources=_counts(trained) if is_mixture else [],
        provenance=_counts(_few(provenance(facts, store))),
        overlap=overlap.near,
        cached=cached,
        report_uri=uri,
    )


def left_out(facts: RowFacts, store: TokenStore, aside: TokenStore | None) -> dict[str, int]:
    """Rows that are not trained on, by the step that left them out."""
    trained = sum(trained_rows(facts, store).values())
    set_aside = sum(trained_rows(facts, aside).values()) if aside else 0
    return {
        **facts.dropped(),
        NOT_SAMPLED: sum(facts.kept.values()) - trained - set_aside,
        SET_ASIDE: set_aside,
    }


def trained_rows(facts: RowFacts, store: TokenStore) -> dict[str, int]:
    """Rows of a store, by dataset."""
    rows, first, found = np.unique(store.sources), 0, {}
    for name, kept in facts.kept.items():
        found[name] = int(((rows >= first) & (rows < first + kept)).sum())
        first += kept
    return found


def provenance(facts: RowFacts, store: TokenStore) -> dict[str, int]:
    """Rows that are trained on by where they come from, the most common first; empty where nothing is said of any."""
    numbers = store.provenances[_one_of_each(store)]
    found = Counter(facts.provenances[number] for number in numbers)
    return {} if set(found) <= {UNKNOWN} else dict(found.most_common())


def balance(facts: RowFacts, store: TokenStore) -> Balance:
    """How often each answer, or letter of a right option, is given, where no dataset has free text for answers."""
    numbers = store.answers[_one_of_each(store)]
    if not all(one.has_few_answers for one in facts.sources if one.kept):
        return Balance(len(numbers), {})
    return Balance(
        len(numbers), dict(Counter(facts.answers[number] for number in numbers if number >= 0).most_common())
    )


def histogram(lengths: Numbers) -> list[dict[str, int]]:
    """Rows by length in tokens: so many of at least ``from`` and less than ``below``."""
    counts, _ = np.histogram(lengths, _EDGES)
    last = max(np.flatnonzero(counts), default=-1)
    return [
        {"from": start, "below": end, "rows": int(count)}
        for start, end, count in zip(_EDGES[: last + 1], _EDGES[1:], counts, strict=False)
    ]


def document(
    facts: RowFacts,
    store: TokenStore,
    aside: TokenStore | None,
    overlap: OverlapFacts,
    status: DatasetStatus,
    wanted: Mapping[str, str],
) -> dict[str, Any]:
    """dataset.json: all that is known of the rows. ``wanted`` are the weights of a mixture."""
    trained, responses = trained_rows(facts, store), store.response_lengths
    set_aside = trained_rows(facts, aside) if aside else {}
    total = sum(trained.values()) or 1
    return {
        "status": status.to_api(),
        "sha256": facts.sha256,
        "datasets": [
            {
                **one.model_dump(mode="json", by_alias=True, exclude={"has_few_answers"}),
                "trained": trained[one.name],
                **({"setAside": set_aside[one.name]} if set_aside else {}),
                "share": round(trained[one.name] / total, 4),
                **({"weight": wanted[one.name]} if one.name in wanted else {}),
            }
            for one in facts.sources
        ],
        "promptTokens": histogram(store.lengths - responses),
        "responseTokens": histogram(responses),
        "answers": dict(balance(facts, store).counts),
        "provenance": provenance(facts, store),
        "overlap": overlap.model_dump(mode="json", by_alias=True),
        "sample": facts.sample,
    }


def row_advice(facts: RowFacts, store: TokenStore) -> list[Advice]:
    """What a careful user would want to know of the rows, the weightiest first."""
    trained, dropped = trained_rows(facts, store), facts.dropped()
    rows = sum(trained.values())
    read = sum(one.read for one in facts.sources)
    found = [_answers_advice(balance(facts, store))]
    if bad := dropped.get(MALFORMED):
        first = next(one.malformed[0] for one in facts.sources if one.malformed)
        found.append(("MalformedRows", f"{bad:,} of {read:,} rows can't be used and were left out: mend them; {first}"))
    for one in facts.sources:
        if not trained[one.name] and one.name != REPLAY:
            found.append(
                (
                    "DatasetNotTrainedOn",
                    f"none of the {one.read:,} rows of {one.field} is trained on: raise its weight, see "
                    "in dataset.json what left them out, or take it out of the mixture",
                )
            )
    unfit = dropped.get(TOO_LONG, 0)
    if unfit > _MANY_TOO_LONG * (unfit + rows):
        found.append(
            (
                "LongRowsDropped",
                f"{unfit:,} rows are longer than the model takes and were left out: raise model.maxSequenceLength, or "
                "shorten them",
            )
        )
    if mute := dropped.get(NO_RESPONSE):
        found.append(("NoResponse", f"{mute:,} rows have no response that the loss sees: check their train flags"))
    if (near := dropped.get(NEAR, 0)) > _MUCH * read:
        found.append(
            (
                "NearDuplicates",
                f"{near:,} of {read:,} rows nearly repeat another and were left out: if they only share boilerplate, "
                "set dataset.filters.deduplication: Exact",
            )
        )
    if rows < FEWEST:
        found.append(
            (
                "FewExamples",
                f"{rows:,} examples are few: {FEWEST} to {MOST:,} clean ones usually serve a fine-tune best",
            )
        )
    elif rows > MOST:
        found.append(
            (
                "ManyExamples",
                f"{rows:,} examples are many: {FEWEST} to {MOST:,} clean ones often do as well in less time; "
                "dataset.maxExamples takes the first so many",
            )
        )
    return [Advice(reason=one[0], message=cut(one[1], 512)) for one in found if one]


def _answers_advice(found: Balance) -> tuple[str, str] | None:
    if found.rows < _ENOUGH_ROWS or not found.counts:
        return None
    answer, count = next(iter(found.counts.items()))
    if count == found.rows:
        return (
            "OneClass",
            f"all {count:,} rows give the same answer, {cut(answer, 60)!r}: the model learns to say that whatever it "
            "is asked; add rows with other answers",
        )
    if count > _DOMINATING * found.rows:
        return (
            "DominatingAnswer",
            f"{count / found.rows:.0%} of the rows give the answer {cut(answer, 60)!r}: always saying so would be "
            "right as often; add rows with other answers, or take fewer of these",
        )
    return None


def _one_of_each(store: TokenStore) -> Numbers:
    """Places of one token row for each row that is trained on."""
    found: Numbers = np.unique(store.sources, return_index=True)[1]
    return found


def _few(counts: Mapping[str, int]) -> dict[str, int]:
    """The most common, and the others together."""
    if len(counts) <= _MAX_NAMES:
        return dict(counts)
    items = list(counts.items())
    return {**dict(items[: _MAX_NAMES - 1]), "Other": sum(rows for _, rows in items[_MAX_NAMES - 1 :])}


def _counts(counts: Mapping[str, int]) -> list[RowCount]:
    return [RowCount(name=name, rows=rows) for name, rows in counts.items()]


def short(number: int) -> str:
    """Such as 2.6M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return str(number)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """What a log says of the rows, from dataset.json."""
    status = report["status"]
    lines = [f"rows: {status['summary']}{', prepared by an earlier run' if status.get('cached') else ''}"]
    several = len(report["datasets"]) > 1
    for one in report["datasets"]:
        dropped = ", ".join(f"{rows:,} {in_words(kind)}" for kind, rows in one["dropped"].items())
        aside = f"{one['setAside']:,} set aside for validation, " if one.get("setAside") else ""
        lines.append(
            f"rows of {one['source']}{' (' + one['name'] + ')' if several else ''}: {one['read']:,} read, "
            f"{'left out: ' + dropped + ', ' if dropped else ''}{one['kept']:,} kept, {aside}{one['trained']:,} "
            f"trained on{' (' + format(one['share'], '.1%') + ' of all)' if several else ''}"
        )
        lines += [f"  malformed: {text}" for text in one["malformed"]]
    lengths = status["lengths"]
    lines.append(
        f"tokens of a row: median {lengths['median']:,}, 95% at most {lengths['percentile95']:,}, longest "
        f"{lengths['longest']:,}; {status['responseTokens']:,} of {status['tokens']:,} count in the loss"
    )
    for what in ("answers", "provenance"):
        if report[what]:
            lines.append(
                f"{what}: {', '.join(f'{rows:,} {name}' for name, rows in list(report[what].items())[:_MAX_NAMES])}"
            )
    if overlap := report["overlap"]["near"]:
        lines.append(
            f"overlap: {overlap:,} of {report['overlap']['heldOut']:,} held-out rows ask what a training row asks"
        )
        lines += [f"  {pair}" for pair in report["overlap"]["pairs"]]
    return [*lines, report["sample"]]
