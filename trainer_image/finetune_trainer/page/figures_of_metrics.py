"""How a metric's numbers are told: as a share or as they stand, and whether more of it is better. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from finetune_api.results import MetricStatus, MetricValue
from finetune_trainer.page.text import words

SIGNIFICANT = 0.05
_PROPORTIONS = ("Accuracy", "Rate", "Consistency")
_SCORES_OF_100 = ("BLEU", "ChrF")


class Better(Enum):
    """Which way a metric is better."""

    MORE = "more"
    LESS = "less"
    UNKNOWN = "unknown"


class Change(Enum):
    """What became of a metric."""

    BETTER = "Better"
    WORSE = "Worse"
    OPEN = "No clear difference"  # what was seen may be chance, or nothing tells whether it is
    NONE = "Not compared"


@dataclass(frozen=True)
class Metric:
    """A metric's entry, ready to be told."""

    status: MetricStatus

    @property
    def title(self) -> str:
        return words(self.status.name)

    @property
    def better(self) -> Better:
        """Which way is better, by the name alone: status says nothing of it."""
        name = self.status.name
        if name in ("Perplexity", "CalibrationError") or name.endswith("Rate"):
            return Better.LESS
        if name.endswith(("Accuracy", "Consistency")) or name in _SCORES_OF_100:
            return Better.MORE
        return Better.UNKNOWN

    @property
    def is_share(self) -> bool:
        """Whether it is a proportion of rows, which people read in percent."""
        name, values = self.status.name, [one for one in (self.status.base, self.status.tuned) if one]
        if name in _SCORES_OF_100:
            return False
        within = all(0 <= _float(one.value) <= 1 for one in values)
        return within and (name.endswith(_PROPORTIONS) or any(one.interval95 for one in values))

    @property
    def change(self) -> Change:
        """Better or worse only where the difference is more than chance."""
        if not (self.status.base and self.status.tuned):
            return Change.NONE
        gain = self.gain
        if self.better is Better.UNKNOWN or not self.is_significant or not gain:
            return Change.OPEN
        return Change.BETTER if gain > 0 else Change.WORSE

    @property
    def gain(self) -> float:
        """Tuned minus base, the other way round where less is better; 0 without both."""
        if not (self.status.base and self.status.tuned):
            return 0.0
        difference = _float(self.status.tuned.value) - _float(self.status.base.value)
        return -difference if self.better is Better.LESS else difference

    @property
    def is_significant(self) -> bool:
        return self.status.p_value is not None and _float(self.status.p_value) < SIGNIFICANT

    @property
    def base(self) -> str:
        return self._value(self.status.base)

    @property
    def tuned(self) -> str:
        return self._value(self.status.tuned)

    @property
    def base_interval(self) -> str:
        return self._interval(self.status.base)

    @property
    def tuned_interval(self) -> str:
        return self._interval(self.status.tuned)

    @property
    def difference(self) -> str:
        """With its sign, such as '+25.0 points' or '−12.3'; empty without both."""
        if not (self.status.base and self.status.tuned):
            return ""
        difference = _float(self.status.tuned.value) - _float(self.status.base.value)
        if not math.isfinite(difference):
            return ""
        if self.is_share:
            return f"{signed(difference * 100, 1)} points"
        return signed(difference)

    @property
    def p_value(self) -> str:
        """Such as '0.012' or '< 0.001'; empty without a test."""
        if self.status.p_value is None:
            return ""
        p = _float(self.status.p_value)
        return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"

    @property
    def p_told(self) -> str:
        """Such as 'p = 0.012'; empty without a test."""
        return f"p {'' if self.p_value.startswith('<') else '= '}{self.p_value}" if self.p_value else ""

    @property
    def half_width(self) -> float | None:
        """Half of the tuned model's interval, in the metric's own unit."""
        interval = self.status.tuned.interval95 if self.status.tuned else None
        return (_float(interval.high) - _float(interval.low)) / 2 if interval else None

    def _value(self, value: MetricValue | None) -> str:
        return shown(_float(value.value), self.is_share) if value else "–"

    def _interval(self, value: MetricValue | None) -> str:
        if value is None or value.interval95 is None:
            return ""
        low, high = _float(value.interval95.low), _float(value.interval95.high)
        if self.is_share:
            return f"{low * 100:.1f} – {high * 100:.1f}%"
        return f"{shown(low, False)} – {shown(high, False)}"


def shown(value: float, share: bool) -> str:
    """A value for people: 25.0%, or four digits of what is no share."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "not a number"
    if share:
        return f"{value * 100:.1f}%"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def signed(value: float, digits: int | None = None) -> str:
    """A difference with its sign, and a minus as wide as the plus."""
    text = shown(abs(value), False) if digits is None else f"{abs(value):.{digits}f}"
    if float(text.replace(",", "") if text[0].isdigit() else "1") == 0:
        return "±0"
    return f"{'+' if value > 0 else '−'}{text}"


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
