"""What the rows of a report say of a metric: its value, or how much better one model is than another on the same rows.

A share of rows is told by counts: Wilson's interval, Tango's for a difference, McNemar's exact test. Any other metric
that follows from sums over rows is told by drawing the rows again. A pair's figure is positive where the first model is
the better one, whichever way the metric points; of a relative metric it is a share of the second model's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from finetune_trainer.data.power import POWER, detectable_gain, detectable_shortfall, showable_margin, two_sided
from finetune_trainer.evaluation.metrics.base import Metric, Numbers
from finetune_trainer.evaluation.paired_statistics import bootstrap, swap_test, tango_interval
from finetune_trainer.evaluation.statistics import mcnemar_exact, wilson_interval
from finetune_trainer.sources.stored_report import StoredRow

_Z_POWER = two_sided(2 * (1 - POWER))
Ends = tuple[float, float]
# What a metric kept of a row, of two models: an entry for each of its parts.
Entries = tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]


class Value(Protocol):
    """A metric of one model."""

    @property
    def figure(self) -> float: ...
    @property
    def rows(self) -> int: ...
    def interval(self, alpha: float) -> Ends: ...
    def detectable(self, alpha: float) -> float:
        """How far the value must be from a bound to be told from it with 80% power."""
        ...


class Pair(Protocol):
    """A metric of two models on the same rows."""

    @property
    def figure(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def test(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...
    def p_value(self) -> float: ...
    def interval(self, alpha: float) -> Ends: ...
    def detectable(self, alpha: float) -> float:
        """The least difference that is found with 80% power."""
        ...

    def margin(self, alpha: float) -> float:
        """The least margin that a model as good as the other keeps with 80% power."""
        ...


def value_of(metric: Metric[Any], rows: Iterable[StoredRow], seed: int) -> Value | None:
    """The tuned model's value; None where no row counts in the metric, or it can't be had from rows."""
    seen = [entries for row in rows if (entries := row.seen("tuned", metric.name))]
    hits = [hit for entries in seen for one in entries if (hit := metric.hit(one)) is not None]
    if hits:
        return _Share(sum(hits), len(hits))
    sums = [found for entries in seen if (found := _sums(metric, entries)) is not None]
    return _OfSums(metric, np.array(sums), seed) if sums else None


def pair_of(metric: Metric[Any], rows: Iterable[Entries], seed: int) -> Pair | None:
    """What two models, the first of which is the one that is judged, show on the same rows; None as above."""
    both = [(one, other) for one, other in rows if one and len(one) == len(other)]
    hits = [
        (first, second)
        for one, other in both
        for mine, theirs in zip(one, other, strict=True)
        if (first := metric.hit(mine)) is not None and (second := metric.hit(theirs)) is not None
    ]
    if hits:
        first_only, second_only = (sum(pair == wanted for pair in hits) for wanted in ((True, False), (False, True)))
        better, worse = (first_only, second_only) if metric.better == "Higher" else (second_only, first_only)
        return _SharePair(better, worse, len(hits))
    sums = [(_sums(metric, one), _sums(metric, other)) for one, other in both]
    known = [(one, other) for one, other in sums if one is not None and other is not None]
    if not known:
        return None
    return _SumsPair(metric, np.array([one for one, _ in known]), np.array([other for _, other in known]), seed)


def within_report(rows: Iterable[StoredRow], metric: str) -> Iterable[Entries]:
    """The tuned model's and the base model's entries, row by row."""
    return ((row.seen("tuned", metric), row.seen("base", metric)) for row in rows)


def between_reports(rows: Iterable[StoredRow], others: Iterable[StoredRow], metric: str) -> Iterable[Entries]:
    """The tuned models' entries of two reports, for the rows that are in both."""
    theirs = {row.sha256: row for row in others}
    return (
        (row.seen("tuned", metric), theirs[row.sha256].seen("tuned", metric)) for row in rows if row.sha256 in theirs
    )


@dataclass(frozen=True)
class _Share:
    hits: int
    rows: int

    @property
    def figure(self) -> float:
        return self.hits / self.rows

    def interval(self, alpha: float) -> Ends:
        return wilson_interval(self.hits, self.rows, two_sided(alpha))

    def detectable(self, alpha: float) -> float:
        return detectable_shortfall(self.rows, self.figure, alpha)


@dataclass(frozen=True)
class _OfSums:
    metric: Metric[Any]
    sums: Numbers
    seed: int

    @property
    def figure(self) -> float:
        return float(self.metric.of_sums(self.sums.sum(axis=0)))

    @property
    def rows(self) -> int:
        return len(self.sums)

    def interval(self, alpha: float) -> Ends:
        return bootstrap(self.sums, self.metric.of_sums, alpha, self.seed)

    def detectable(self, alpha: float) -> float:
        return _from_interval(self.interval(alpha), alpha)


@dataclass(frozen=True)
class _SharePair:
    better: int
    worse: int
    rows: int
    test: str = "McNemar exact"

    @property
    def figure(self) -> float:
        return (self.better - self.worse) / self.rows

    @property
    def counts(self) -> dict[str, int]:
        return {"better": self.better, "worse": self.worse}

    @property
    def _discordant(self) -> float:
        return max(1, self.better + self.worse) / self.rows

    def p_value(self) -> float:
        return mcnemar_exact(self.better, self.worse)

    def interval(self, alpha: float) -> Ends:
        return tango_interval(self.better, self.worse, self.rows, alpha)

    def detectable(self, alpha: float) -> float:
        return detectable_gain(self.rows, self._discordant, alpha)

    def margin(self, alpha: float) -> float:
        return showable_margin(self.rows, self._discordant, alpha)


@dataclass(frozen=True)
class _SumsPair:
    metric: Metric[Any]
    first: Numbers
    second: Numbers
    seed: int
    test: str = "paired permutation"

    @property
    def figure(self) -> float:
        return float(self._advantage(np.hstack([self.first, self.second]).sum(axis=0)))

    @property
    def rows(self) -> int:
        return len(self.first)

    @property
    def counts(self) -> dict[str, int]:
        return {}

    def p_value(self) -> float:
        return swap_test(self.first, self.second, self.metric.of_sums, self.seed)

    def interval(self, alpha: float) -> Ends:
        return bootstrap(np.hstack([self.first, self.second]), self._advantage, alpha, self.seed)

    def detectable(self, alpha: float) -> float:
        return _from_interval(self.interval(alpha), alpha)

    margin = detectable

    def _advantage(self, sums: Numbers) -> Numbers:
        width = self.first.shape[1]
        one, other = self.metric.of_sums(sums[..., :width]), self.metric.of_sums(sums[..., width:])
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = (one - other) / (np.abs(other) if self.metric.relative else 1)
        return np.asarray(apart if self.metric.better == "Higher" else -apart)


def _from_interval(ends: Ends, alpha: float) -> float:
    """A difference of (z_a + z_b) standard errors, where an interval is z_a of them to each side."""
    z = two_sided(alpha)
    return (ends[1] - ends[0]) / 2 * (z + _Z_POWER) / z


def _sums(metric: Metric[Any], entries: Sequence[dict[str, Any]]) -> tuple[float, ...] | None:
    """What a row comes to: its parts are no rows of their own, and stay together when rows are drawn again."""
    parts = [found for one in entries if (found := metric.sums(one)) is not None]
    return tuple(map(sum, zip(*parts, strict=True))) if parts else None
