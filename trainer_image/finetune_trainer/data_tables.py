"""dataset.json as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from finetune_api.filters import FiltersSpec
from finetune_api.results import Advice
from finetune_trainer.whole_tables import print_whole

_BAR = 16  # characters
_SHOWN = 10
_SEEN = re.compile("⟦(.*?)⟧", re.DOTALL)
_STEPS = {
    "Malformed": "malformed",
    "ExactDuplicate": "exact duplicate",
    "NearDuplicate": "near duplicate",
    "TooLong": "too long",
    "NoResponse": "no response",
}


def print_tables(document: Mapping[str, Any], advice: Sequence[Advice], filters: FiltersSpec) -> None:
    """Prints all that is known of a job's rows."""
    console = Console(highlight=False)
    for part in _parts(document, advice, filters):
        print_whole(console, part)
        console.print()


def _parts(document: Mapping[str, Any], advice: Sequence[Advice], filters: FiltersSpec) -> Iterable[RenderableType]:
    status = document["status"]
    cached = ", prepared by an earlier run" if status.get("cached") else ""
    yield Text(f"{status['summary']}{cached}; {status['responseTokens']:,} tokens count in the loss", "bold")
    yield _steps(document["datasets"], filters)
    yield _lengths(document)
    for what, title in (("answers", "answer"), ("provenance", "from")):
        if document[what]:
            yield _shares(document[what], title)
    yield _overlap(document["overlap"], filters)
    for one in document["datasets"]:
        yield from _named(f"malformed rows of {one['source']}", one["malformed"])
        yield from _named(f"repeated rows of {one['source']}", one["repeats"])
        yield from _named(f"rows of {one['source']} that can't be trained on", one["unfit"])
    if advice:
        yield Group(*(Text.assemble((f"{entry.reason}: ", "yellow"), entry.message) for entry in advice))
    yield Panel(_sample(document["sample"]), title="one row; ⟦the loss sees this⟧", title_align="left")


def _steps(datasets: Sequence[Mapping[str, Any]], filters: FiltersSpec) -> Table:
    """What became of the rows: a column for each dataset."""
    table = _table("rows", *(one["name"] if len(datasets) > 1 else one["source"] for one in datasets), "limit")
    limits = {"Malformed": filters.max_malformed, "TooLong": filters.max_too_long}
    table.add_row("read", *(f"{one['read']:,}" for one in datasets), "")
    for kind, words in _STEPS.items():
        counts = [one["dropped"].get(kind, 0) for one in datasets]
        if any(counts) or kind in limits:
            cells = [_part(count, one["read"]) for count, one in zip(counts, datasets, strict=True)]
            table.add_row(words, *cells, f"{float(limits[kind]):.0%}" if kind in limits else "")
    aside = [one.get("setAside", 0) for one in datasets]
    not_sampled = [one["kept"] - one["trained"] - count for one, count in zip(datasets, aside, strict=True)]
    for words, counts in (("not sampled", not_sampled), ("set aside for validation", aside)):
        if any(counts):
            table.add_row(words, *(f"{count:,}" for count in counts), "")
    table.add_row("trained on", *(f"{one['trained']:,}" for one in datasets), "", style="bold")
    if len(datasets) > 1:
        table.add_row("share", *(f"{one['share']:.1%}" for one in datasets), "")
        if any("weight" in one for one in datasets):
            table.add_row("weight", *(one.get("weight", "") for one in datasets), "")
    return table


def _lengths(document: Mapping[str, Any]) -> Table:
    lengths = document["status"]["lengths"]
    table = _table("tokens", "prompts", "", "responses", "")
    prompts, responses = document["promptTokens"], document["responseTokens"]
    rows = max(len(prompts), len(responses))
    most = max((one["rows"] for one in (*prompts, *responses)), default=0) or 1
    first = next((place for place in range(rows) if _at(prompts, place) or _at(responses, place)), 0)
    for place in range(first, rows):
        edge = (prompts if place < len(prompts) else responses)[place]
        counts = (_at(prompts, place), _at(responses, place))
        cells = [cell for count in counts for cell in (f"{count:,}", Text("█" * round(_BAR * count / most), "cyan"))]
        table.add_row(f"{edge['from']:,} to {edge['below'] - 1:,}", *cells)
    table.caption = (
        f"of a whole row: median {lengths['median']:,}, 95% at most {lengths['percentile95']:,}, longest "
        f"{lengths['longest']:,}"
    )
    return table


def _at(bins: Sequence[Mapping[str, int]], place: int) -> int:
    return bins[place]["rows"] if place < len(bins) else 0


def _shares(counts: Mapping[str, int], title: str) -> Table:
    table, total = _table(title, "rows", "share", ""), sum(counts.values())
    for name, rows in list(counts.items())[:_SHOWN]:
        table.add_row(Text(name), f"{rows:,}", f"{rows / total:.1%}", Text("█" * round(_BAR * rows / total), "cyan"))
    if len(counts) > _SHOWN:
        table.caption = f"and {len(counts) - _SHOWN} others"
    return table


def _overlap(found: Mapping[str, Any], filters: FiltersSpec) -> RenderableType:
    if not found["heldOut"]:
        return Text("no held-out rows: nothing to compare with", "dim")
    text = (
        f"{_part(found['near'], found['heldOut'])} of {found['heldOut']:,} held-out rows ask what a training row asks"
    )
    return Group(
        Text(f"{text}, {found['exact']:,} in the same words; at most {float(filters.max_overlap):.0%} may"),
        *(Text(f"  {pair}", "dim") for pair in found["pairs"]),
    )


def _named(title: str, rows: Sequence[str]) -> Iterable[RenderableType]:
    if rows:
        yield Group(Text(f"{title}:", "bold"), *(Text(f"  {row}") for row in rows))


def _sample(text: str) -> Text:
    marked = Text()
    for place, part in enumerate(_SEEN.split(text)):
        marked.append(f"⟦{part}⟧" if place % 2 else part, "green" if place % 2 else "")
    return marked


def _part(count: int, whole: int) -> str:
    return f"{count:,} ({count / whole:.1%})" if count and whole else f"{count:,}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), caption_justify="left", header_style="dim")
    table.add_column(first, min_width=16)
    for name in others:
        table.add_column(Text(name), justify="right" if name else "left")
    return table
