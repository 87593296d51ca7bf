"""Figures of how training went, over its steps, and of what became of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finetune_trainer.page.documents import Step
from finetune_trainer.page.svg import BASE, INK, MUTED, PAPER, RIGHT, TUNED, Drawing, draw
from finetune_trainer.page.text import short

_MOST_POINTS = 400
_HEIGHT = 170

Points = list[tuple[float, float]]


def loss(steps: Sequence[Step], best_step: int | None) -> Drawing | None:
    """Training loss, and the loss of validation rows where they were measured."""
    trained, validated = _points(steps, lambda one: one.loss), _points(steps, lambda one: one.validation_loss)
    if not trained and not validated:
        return None

    def paint(axes: Any) -> None:
        from matplotlib.lines import Line2D

        marks = []
        if trained:
            axes.plot(*_columns(thinned(trained)), color=BASE, linewidth=1.3)
            marks.append(Line2D([], [], color=BASE, linewidth=1.3, label="training"))
        if validated:
            axes.plot(*_columns(thinned(validated)), "o-", color=TUNED, markersize=5, linewidth=1.6)
            marks.append(Line2D([], [], color=TUNED, marker="o", markersize=5, label="validation"))
        if best_step:
            axes.axvline(best_step, color=RIGHT, linewidth=1.2, linestyle=(0, (3, 2)))
            marks.append(
                Line2D([], [], color=RIGHT, linewidth=1.2, linestyle=(0, (3, 2)), label=f"saved: step {best_step}")
            )
        _steps(axes)
        axes.set_ylabel("loss")
        axes.legend(
            handles=marks, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.4, columnspacing=1.2,
            borderaxespad=0.2, labelcolor=INK, handlelength=1.4,
        )  # fmt: skip

    told = [_ends("training loss", trained), _ends("validation loss", validated)]
    told.append(f"the weights of step {best_step} were saved" if best_step else "")
    return draw("loss", "Loss by step", _sentence(told), _HEIGHT, paint)


def learning_rate(steps: Sequence[Step]) -> Drawing | None:
    """The learning rate that was used."""
    return _line("rate", "Learning rate", "learning rate", _points(steps, lambda one: one.learning_rate))


def throughput(steps: Sequence[Step]) -> Drawing | None:
    """Tokens a second since the start of the attempt."""
    return _line(
        "throughput", "Tokens per second", "tokens per second", _points(steps, lambda one: one.tokens_per_second)
    )


def gradient(steps: Sequence[Step]) -> Drawing | None:
    """Norm of the gradient before clipping."""
    return _line("gradient", "Gradient norm", "gradient norm", _points(steps, lambda one: one.gradient_norm))


def memory(steps: Sequence[Step]) -> Drawing | None:
    """GPU memory that PyTorch had reserved."""
    points = [(step, value / 2**30) for step, value in _points(steps, lambda one: one.reserved_bytes)]
    return _line("memory", "GPU memory, GiB", "reserved GPU memory in GiB", points)


def retention(steps: Sequence[Step], best_step: int | None) -> Drawing | None:
    """Perplexity of general rows while training went on."""
    points = _points(steps, lambda one: one.retention_perplexity)
    return _line("retention", "Perplexity of retention rows", "perplexity", points, best_step)


def funnel(stages: Sequence[tuple[str, int, int]]) -> Drawing:
    """Rows that are left after each step of their preparation: name, rows left, rows that it took out."""
    most = max(rows for _, rows, _ in stages) or 1

    def paint(axes: Any) -> None:
        last = len(stages) - 1
        for place, (_, rows, out) in enumerate(stages):
            axes.barh(place, rows, 0.62, color=TUNED if place == last else BASE, alpha=1.0)
            if out:
                axes.barh(place, out, 0.62, left=rows, color=PAPER, edgecolor=BASE, linewidth=1, hatch="////")
            said = f"{rows:,}" + (f"  (−{out:,})" if out else "")
            axes.text(rows + out, place, f" {said}", va="center", color=INK, fontsize=9)
        axes.set_yticks(range(len(stages)), [short(name, 24) for name, _, _ in stages], color=INK)
        axes.set_ylim(last + 0.5, -0.5)
        axes.set_xlim(0, most * 1.3)
        axes.set_xticks([])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)

    told = "; ".join(f"{name}: {rows} rows left, {out} taken out" for name, rows, out in stages)
    return draw("funnel", "Rows left after each step", f"{told}.", 24 + 26 * len(stages), paint)


def thinned(points: Points) -> Points:
    """At most so many points as a figure can show, each the mean of a stretch of equal length."""
    if len(points) <= _MOST_POINTS:
        return points
    stretch = -(-len(points) // _MOST_POINTS)
    parts = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _line(name: str, title: str, what: str, points: Points, best_step: int | None = None) -> Drawing | None:
    if len(points) < 2:
        return None

    def paint(axes: Any) -> None:
        few = len(points) <= 40
        axes.plot(*_columns(thinned(points)), "o-" if few else "-", color=TUNED, markersize=3)
        if best_step:
            axes.axvline(best_step, color=RIGHT, linewidth=1.2, linestyle=(0, (3, 2)))
        axes.margins(y=0.15)
        if name in ("throughput", "memory"):
            axes.set_ylim(0, max(value for _, value in points) * 1.15 or 1)
        _steps(axes)

    return draw(name, title, _sentence([_ends(what, points)]), _HEIGHT, paint)


def _points(steps: Sequence[Step], value: Callable[[Step], float | None]) -> Points:
    """Of a step that stands there twice, as after a resumed attempt, the last line counts."""
    found = {one.step: measured for one in steps if (measured := value(one)) is not None}
    return sorted((float(step), measured) for step, measured in found.items())


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _steps(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xlabel("step", color=MUTED, labelpad=1)


def _ends(what: str, points: Points) -> str:
    if not points:
        return ""
    (first, before), (last, after) = points[0], points[-1]
    return f"{what} {before:.4g} at step {first:.0f}, {after:.4g} at step {last:.0f}"


def _sentence(parts: Sequence[str]) -> str:
    return "; ".join(part for part in parts if part) + "."
