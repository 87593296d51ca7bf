"""What metrics have in common that count rows: their share with an interval, and McNemar's test on pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finetune_api.base import number
from finetune_api.results import Interval, MetricValue, PairedTest
from finetune_trainer.evaluation.metrics.base import Test
from finetune_trainer.evaluation.statistics import mcnemar_exact, wilson_interval


def share_of(rows: Sequence[bool]) -> MetricValue:
    """The share of true rows, with its Wilson interval. Raises ValueError for no rows."""
    low, high = wilson_interval(sum(rows), len(rows))
    return MetricValue(value=number(sum(rows) / len(rows)), interval95=Interval(low=number(low), high=number(high)))


def flag(document: Mapping[str, Any], name: str) -> bool | None:
    """A truth value of a row's entry in a report; None where there is none."""
    value = document.get(name)
    return value if isinstance(value, bool) else None


def mcnemar(base: Sequence[bool], tuned: Sequence[bool]) -> Test:
    """McNemar's exact test on rows that each model has right or not."""
    pairs = Counter(zip(base, tuned, strict=True))
    base_only, tuned_only = pairs[True, False], pairs[False, True]
    paired = PairedTest(name="McNemar exact", base_only=base_only, tuned_only=tuned_only)
    return Test(paired, mcnemar_exact(base_only, tuned_only))
