"""Figures of what was measured: metrics with their intervals, letters, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from finetune_trainer.page.documents import Baselines, Calibration
from finetune_trainer.page.figures_of_metrics import Metric
from finetune_trainer.page.svg import BASE, INK, MUTED, PAPER, RIGHT, TUNED, Drawing, draw
from finetune_trainer.page.text import sentence, short

_MAX_BARS = 12
_ROW = 44  # CSS pixels of a metric


def intervals(metrics: Sequence[Metric], baselines: Baselines | None) -> Drawing:
    """Base and tuned of each share, a row each, with their 95% intervals."""

    def paint(axes: Any) -> None:
        for row, metric in enumerate(metrics):
            for value, offset, filled in ((metric.status.base, -0.16, False), (metric.status.tuned, 0.16, True)):
                if value is None:
                    continue
                colour, at = (TUNED if filled else BASE), float(value.value) * 100
                if bounds := value.interval95:
                    ends = (float(bounds.low) * 100, float(bounds.high) * 100)
                    axes.plot(ends, (row + offset,) * 2, color=colour, linewidth=2, solid_capstyle="butt")
                    axes.plot(ends, (row + offset,) * 2, "|", color=colour, markersize=7, markeredgewidth=1.4)
                face = colour if filled else PAPER
                mark = {"markerfacecolor": face, "markersize": 7, "markeredgewidth": 1.6, "clip_on": False}
                axes.plot(at, row + offset, "o", color=colour, **mark)
        if baselines:
            axes.axvline(baselines.guessing * 100, color=RIGHT, linewidth=1, linestyle=(0, (2, 2)))
            axes.text(baselines.guessing * 100, -0.62, " guessing", color=RIGHT, fontsize=9, ha="left", va="center")
        axes.set_yticks(range(len(metrics)), [short(sentence(one.title), 24) for one in metrics], color=INK)
        axes.set_ylim(len(metrics) - 0.45, -0.8 if baselines else -0.55)
        axes.set_xlim(0, 100)
        axes.set_xticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", length=0)
        _key(axes, any(one.status.base for one in metrics))

    told = "; ".join(
        f"{one.title}: base {one.base} {one.base_interval}, tuned {one.tuned} {one.tuned_interval}" for one in metrics
    )
    title = "Base and tuned with 95% intervals"
    return draw("scores", title, f"{told}.", 58 + _ROW * len(metrics), paint)


def letters(
    name: str, title: str, right: Mapping[str, int], base: Mapping[str, int], tuned: Mapping[str, int]
) -> Drawing:
    """How often each letter was chosen, beside how often it is right."""
    found = sorted({*right, *base, *tuned}, key=lambda one: (-right.get(one, 0), one))[:_MAX_BARS]
    shown = sorted(found)

    def paint(axes: Any) -> None:
        places = range(len(shown))
        width = 0.36 if base else 0.6
        if base:
            heights = [base.get(one, 0) for one in shown]
            axes.bar([at - 0.2 for at in places], heights, width, color=PAPER, edgecolor=BASE, linewidth=1.4)
        heights = [tuned.get(one, 0) for one in shown]
        axes.bar([at + 0.2 if base else at for at in places], heights, width, color=TUNED)
        for at, one in enumerate(shown):
            axes.plot((at - 0.44, at + 0.44), (right.get(one, 0),) * 2, color=RIGHT, linewidth=2.2)
        axes.set_xticks(places, [short(one, 6) for one in shown], color=INK)
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, max([*right.values(), *base.values(), *tuned.values(), 1]) * 1.08)
        _whole(axes.yaxis)
        axes.set_ylabel("rows")
        _key(axes, bool(base), right=True)

    told = "; ".join(
        f"{short(one, 16)}: right {right.get(one, 0)}, base {base.get(one, 0)}, tuned {tuned.get(one, 0)}"
        for one in shown
    )
    return draw(name, title, f"{told}.", 190, paint)


def reliability(found: Mapping[str, Calibration]) -> Drawing:
    """Share right over the mean probability of a bin; on the diagonal a model is right as often as it is sure."""

    def paint(axes: Any) -> None:
        axes.plot((0, 100), (0, 100), color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        for side, colour, face in (("base", BASE, PAPER), ("tuned", TUNED, TUNED)):
            bins = [one for one in found[side].bins if one.rows] if side in found else []
            most = max((one.rows for one in bins), default=1)
            points = [(one.mean_probability * 100, one.share_right * 100) for one in bins]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2)
            for (x, y), one in zip(points, bins, strict=True):
                big = 4 + 6 * math.sqrt(one.rows / most)
                axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=big, markeredgewidth=1.4)
        for which in (axes.set_xticks, axes.set_yticks):
            which(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 104)
        axes.set_xlabel("how sure the model is")
        axes.set_ylabel("how often it is right")
        _key(axes, "base" in found)

    told = "; ".join(
        f"{side}: "
        + ", ".join(
            f"{one.rows} rows at {one.mean_probability:.0%} right in {one.share_right:.0%}" for one in found[side].bins
        )
        for side in ("base", "tuned")
        if side in found
    )
    return draw("calibration", "Right as often as sure?", f"{told}.", 260, paint)


def _key(axes: Any, base: bool, right: bool = False) -> None:
    """What the marks mean, above the axes. Shape tells them apart, too, not colour alone."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="s" if right else "o", linestyle="", color=BASE, markerfacecolor=PAPER, label="base")
    ]
    tuned = Line2D([], [], marker="s" if right else "o", linestyle="", color=TUNED, label="tuned")
    marks = [*(marks if base else []), tuned]
    if right:
        marks.append(Line2D([], [], color=RIGHT, linewidth=2.2, label="right"))
    axes.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.4, columnspacing=1.4,
        borderaxespad=0.2, labelcolor=INK, handlelength=1.2,
    )  # fmt: skip


def _whole(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
