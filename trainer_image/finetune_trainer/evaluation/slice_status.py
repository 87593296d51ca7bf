"""What slices come to: every metric of each, with p-values that know how many slices there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune_api.base import cut, number
from finetune_api.results import MAX_SLICE_STATUSES, Advice, MetricStatus, SliceStatus
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.outcome import Outcome
from finetune_trainer.evaluation.slices import has_own_rows
from finetune_trainer.evaluation.statistics import holm

# With fewer rows a 95% interval of an accuracy near one half is wider than 0.33.
FEW_ROWS = 30
WARNING = f"fewer than {FEW_ROWS} rows: only a large difference would show"
_P_VALUE_DIGITS = 3
_NAMED = 5
ADJUSTED = (
    "pValue of a slice, adjusted for the number of slices that have one of this metric (Holm 1979): where all those "
    "below 0.05 are called different, the chance that any of them is not is at most 5%"
)


def slice_statuses(slices: Mapping[str, Outcome], metrics: Sequence[Metric[Any]]) -> list[SliceStatus]:
    """Each slice with all metrics. p-values are adjusted metric by metric, over the slices that have one."""
    table = [[measure(metric, part).status for part in slices.values()] for metric in metrics]
    rows = zip(*map(_adjusted, table), strict=True)
    return [
        SliceStatus(
            name=name,
            examples=len(part.examples),
            metrics=list(found),
            warning=WARNING if len(part.examples) < FEW_ROWS else None,
        )
        for (name, part), found in zip(slices.items(), rows, strict=True)
    ]


def _adjusted(statuses: Sequence[MetricStatus]) -> list[MetricStatus]:
    tested = {place: float(one.p_value) for place, one in enumerate(statuses) if one.p_value is not None}
    found = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [
        one.model_copy(update={"adjusted_p_value": number(found[place], _P_VALUE_DIGITS)}) if place in found else one
        for place, one in enumerate(statuses)
    ]


def in_status(slices: Sequence[SliceStatus]) -> list[SliceStatus]:
    """What a status holds of them: the first metric that has a value, and of too many slices those with rows of their
    own, then the largest."""

    def weight(place: int) -> tuple[bool, int]:
        return not has_own_rows(slices[place].name), -slices[place].examples

    by_weight = sorted(range(len(slices)), key=weight)
    kept = sorted(by_weight[:MAX_SLICE_STATUSES])
    return [slices[place].model_copy(update={"metrics": _first(slices[place].metrics)}) for place in kept]


def _first(metrics: Sequence[MetricStatus]) -> list[MetricStatus]:
    return [next((metric for metric in metrics if metric.tuned), metrics[0])] if metrics else []


def few_rows_advice(slices: Mapping[str, Outcome]) -> list[Advice]:
    """What to know where slices have few rows."""
    few = {name: len(part.examples) for name, part in slices.items() if len(part.examples) < FEW_ROWS}
    if not few:
        return []
    named = ", ".join(f"{cut(name, 48)} ({rows})" for name, rows in list(few.items())[:_NAMED])
    named += f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    message = (
        f"{len(few)} of {len(slices)} slices have fewer than {FEW_ROWS} rows, so that only a large difference would "
        f"show there: {named}; add rows, or read them one by one in report.json"
    )
    return [Advice(reason="FewRowsInSlices", message=cut(message, 512))]
