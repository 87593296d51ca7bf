"""Judges spec.evaluation.gates by what stands in report.json. Pure: docs/results.md says how each verdict comes about.

Passed by the observed figure: minimum, maximum, minimumGain. Passed only where the interval shows it: significance,
notWorseThan, maximumRetentionLoss. Failed, whichever it is, only where the interval rules it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_api.base import cut, number
from finetune_api.gate_verdicts import FAILED, INCONCLUSIVE, PASSED
from finetune_api.gates import GateSpec
from finetune_api.results import GateStatus
from finetune_trainer.data.power import DEFAULT_ALPHA, POWER
from finetune_trainer.evaluation.gate_evidence import (
    Ends,
    Pair,
    Value,
    between_reports,
    pair_of,
    value_of,
    within_report,
)
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.sources.stored_report import ComparedReport, StoredReport

_MAX_MESSAGE = 256
# The worst first: a gate is as good as the worst of its criteria.
_ORDER = (FAILED, INCONCLUSIVE, PASSED)


@dataclass(frozen=True)
class Criterion:
    """One thing that a gate asks, and what became of it."""

    name: str  # as in the spec
    asked: str
    verdict: str
    message: str
    figures: dict[str, Any] = field(default_factory=dict)  # for report.json
    hint: str = ""  # where the rows were too few: what so many can tell

    @property
    def document(self) -> dict[str, Any]:
        """Its entry in report.json."""
        return {"criterion": self.name, "asked": self.asked, "verdict": self.verdict} | self.figures


@dataclass(frozen=True)
class JudgedGate:
    """A gate and its criteria."""

    gate: GateSpec
    alpha: float
    criteria: Sequence[Criterion]

    @property
    def verdict(self) -> str:
        """Passed, Failed or Inconclusive."""
        return min((one.verdict for one in self.criteria), key=_ORDER.index)

    @property
    def status(self) -> GateStatus:
        """Its entry in status: those criteria first that decided."""
        told = sorted(self.criteria, key=lambda one: _ORDER.index(one.verdict))
        parts = dict.fromkeys((*(one.message for one in told), *(one.hint for one in told if one.hint)))
        message = cut("; ".join(parts), _MAX_MESSAGE)
        return GateStatus(metric=self.gate.metric, verdict=self.verdict, message=message)

    @property
    def document(self) -> dict[str, Any]:
        """Its entry in report.json."""
        head = {"metric": self.gate.metric, "verdict": self.verdict, "alpha": number(self.alpha)}
        return head | {"criteria": [one.document for one in self.criteria]}


def judge(
    gates: Sequence[GateSpec],
    report: StoredReport,
    compared: Mapping[str, ComparedReport],
    seed: int,
    checks: Iterable[Metric[Any]] = (),
) -> list[JudgedGate]:
    """Judges each gate by a report's rows; ``compared`` are earlier reports by URI, ``checks`` those of the spec.

    ``seed`` is for metrics whose rows are drawn again.
    """
    by_name = METRICS | {metric.name: metric for metric in checks}

    def judged(gate: GateSpec) -> JudgedGate:
        alpha = float(gate.significance or DEFAULT_ALPHA)
        return JudgedGate(gate, alpha, list(_criteria(gate, by_name[gate.metric], alpha, report, compared, seed)))

    return [judged(gate) for gate in gates]


def _criteria(
    gate: GateSpec,
    metric: Metric[Any],
    alpha: float,
    report: StoredReport,
    compared: Mapping[str, ComparedReport],
    seed: int,
) -> Iterator[Criterion]:
    if gate.minimum is not None or gate.maximum is not None:
        value = value_of(metric, report.rows, seed)
        for name, asked in (("minimum", gate.minimum), ("maximum", gate.maximum)):
            if asked is not None:
                yield _bound(name, asked, value, alpha)
    if gate.minimum_gain is not None or gate.significance is not None:
        pair = pair_of(metric, within_report(report.rows, gate.metric), seed)
        if gate.minimum_gain is not None:
            yield _gain(gate.minimum_gain, pair, alpha)
        if gate.significance is not None:
            yield _significance(gate.significance, pair, alpha)
    if wanted := gate.not_worse_than:
        theirs = compared[wanted.report]
        pair = pair_of(metric, between_reports(report.rows, theirs.report.rows, gate.metric), seed)
        told = {"report": wanted.report, "reportSha256": theirs.sha256}
        yield _not_worse("notWorseThan", wanted.margin, pair, alpha, f"against {wanted.report}", "margin", told)
    if gate.maximum_retention_loss is not None:
        pair = pair_of(metric, within_report(report.retention_rows, gate.metric), seed)
        asked, name = gate.maximum_retention_loss, "maximumRetentionLoss"
        yield _not_worse(name, asked, pair, alpha, "against base, retention rows", name, {})


def _bound(name: str, asked: str, value: Value | None, alpha: float) -> Criterion:
    """The tuned model's own value against a bound."""
    if value is None:
        return _without_rows(name, asked)
    ends, sign = value.interval(alpha), 1 if name == "minimum" else -1
    if not _finite(value.figure, *ends):
        return _not_finite(name, asked, value.rows)
    bound = float(asked)
    met, ruled_out = sign * value.figure >= sign * bound, max(sign * ends[0], sign * ends[1]) < sign * bound
    verdict = PASSED if met else FAILED if ruled_out else INCONCLUSIVE
    message = f"tuned {_with_ends(value.figure, ends)}, {name} {asked}, n={value.rows}"
    figures = _figures(value.figure, ends, value.rows)
    if verdict != INCONCLUSIVE:
        return Criterion(name, asked, verdict, message, figures)
    least = value.detectable(alpha)
    return _unclear(name, asked, message, figures, f"{value.rows} rows tell values {_short(least)} apart", least)


def _gain(asked: str, pair: Pair | None, alpha: float) -> Criterion:
    """Tuned against base by the observed gain."""
    name = "minimumGain"
    if pair is None:
        return _without_rows(name, asked)
    ends = pair.interval(alpha)
    if not _finite(pair.figure, *ends):
        return _not_finite(name, asked, pair.rows)
    wanted = float(asked)
    verdict = PASSED if pair.figure >= wanted else FAILED if ends[1] < wanted else INCONCLUSIVE
    message = f"gain {_with_ends(pair.figure, ends)}, {name} {asked}, n={pair.rows}"
    return _gained(name, asked, verdict, message, _of_pair(pair, ends), pair, alpha)


def _significance(asked: str, pair: Pair | None, alpha: float) -> Criterion:
    """Tuned against base by the paired test; that it is not significant says nothing for certain."""
    name = "significance"
    if pair is None:
        return _without_rows(name, asked)
    ends, p_value = pair.interval(alpha), pair.p_value()
    if not _finite(pair.figure, *ends):
        return _not_finite(name, asked, pair.rows)
    shown = p_value < alpha and pair.figure != 0
    verdict = INCONCLUSIVE if not shown else PASSED if pair.figure > 0 else FAILED
    counts = "".join(f", {count} rows {word}" for word, count in pair.counts.items())
    message = f"p={_short(p_value)} ({pair.test}{counts}), {name} {asked}"
    figures = _of_pair(pair, ends) | {"test": pair.test, "pValue": number(p_value, 3)}
    return _gained(name, asked, verdict, message, figures, pair, alpha)


def _not_worse(
    name: str, asked: str, pair: Pair | None, alpha: float, than: str, bound: str, told: dict[str, Any]
) -> Criterion:
    """Whether the rows show that it is not worse by more than what is allowed: non-inferiority by an interval."""
    if pair is None:
        return _without_rows(name, asked)
    ends = pair.interval(alpha)
    if not _finite(pair.figure, *ends):
        return _not_finite(name, asked, pair.rows)
    allowed = -float(asked)
    verdict = PASSED if ends[0] >= allowed else FAILED if ends[1] < allowed else INCONCLUSIVE
    word = "worse" if pair.figure < 0 else "better"
    message = f"{word} by {_short(abs(pair.figure))}, advantage in {_ends(ends)}, {bound} {asked}, n={pair.rows}"
    figures = told | _of_pair(pair, ends)
    message = f"{message} ({than})"
    if verdict != INCONCLUSIVE:
        return Criterion(name, asked, verdict, message, figures)
    least = pair.margin(alpha)
    return _unclear(name, asked, message, figures, f"{pair.rows} rows show a margin of {_short(least)}", least)


def _gained(
    name: str, asked: str, verdict: str, message: str, figures: dict[str, Any], pair: Pair, alpha: float
) -> Criterion:
    if verdict != INCONCLUSIVE:
        return Criterion(name, asked, verdict, message, figures)
    least = pair.detectable(alpha)
    return _unclear(name, asked, message, figures, f"{pair.rows} rows find a gain of {_short(least)}", least)


def _unclear(name: str, asked: str, message: str, figures: dict[str, Any], told: str, least: float) -> Criterion:
    """With the least difference that so many rows would have told."""
    figures = figures | {"detectable": number(least)}
    return Criterion(name, asked, INCONCLUSIVE, message, figures, f"{told} with {POWER:.0%} power")


def _without_rows(name: str, asked: str) -> Criterion:
    return Criterion(name, asked, INCONCLUSIVE, f"{name} {asked}: no row counts in the metric", {"rows": 0})


def _not_finite(name: str, asked: str, rows: int) -> Criterion:
    return Criterion(name, asked, INCONCLUSIVE, f"{name} {asked}: the metric is no finite number", {"rows": rows})


def _of_pair(pair: Pair, ends: Ends) -> dict[str, Any]:
    return _figures(pair.figure, ends, pair.rows) | pair.counts


def _figures(figure: float, ends: Ends, rows: int) -> dict[str, Any]:
    return {"figure": number(figure), "interval": {"low": number(ends[0]), "high": number(ends[1])}, "rows": rows}


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))


def _with_ends(figure: float, ends: Ends) -> str:
    return f"{_short(figure)} {_ends(ends)}"


def _ends(ends: Ends) -> str:
    return f"[{_short(ends[0])}, {_short(ends[1])}]"


def _short(value: float) -> str:
    return f"{value:.3g}"
