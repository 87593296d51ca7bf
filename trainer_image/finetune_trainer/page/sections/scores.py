"""Sections of what was measured on the held-out rows."""

from __future__ import annotations

from finetune_trainer.page import charts_of_scores as charts
from finetune_trainer.page.documents import Slice
from finetune_trainer.page.figures_of_metrics import Metric
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections.base import Section
from finetune_trainer.page.text import sentence, short, words

_MAX_CHARTED = 10
_MAX_SLICES = 24
_MARKS = {"Passed": "✓", "Failed": "✗"}


def gates(inputs: Inputs) -> Section | None:
    """What the job was asked to reach, and whether it did."""
    found = inputs.report.gates
    if not found:
        return None
    rows = [(_MARKS.get(one.verdict, "?"), one) for one in found]
    return Section("gates", "Gates", {"gates": rows})


def scores(inputs: Inputs) -> Section | None:
    """Every metric, whatever it is called, and the shares among them as a figure."""
    metrics = [Metric(one) for one in inputs.report.evaluation.metrics]
    if not metrics:
        return None
    shares = [one for one in metrics if one.is_share and one.status.tuned and one.tuned_interval][:_MAX_CHARTED]
    defined = [(one, text) for one in metrics if (text := inputs.report.definitions.get(one.status.name))]
    return Section(
        "scores",
        "Scores",
        {
            "metrics": metrics,
            "with_base": any(one.status.base for one in metrics),
            "examples": inputs.report.evaluation.examples,
            "drawings": [charts.intervals(shares, inputs.report.baselines)] if shares else [],
            "definitions": defined,
            "test": inputs.report.definitions.get("pairedTest", ""),
        },
    )


def slices(inputs: Inputs) -> Section | None:
    """The same metrics of some of the rows."""
    found = inputs.report.slices
    if not found:
        return None
    shown = [(one, [Metric(metric) for metric in one.metrics]) for one in found[:_MAX_SLICES]]
    return Section("slices", "By slice", {"slices": shown, "left_out": _left_out(found)})


def letters(inputs: Inputs) -> Section | None:
    """Whether a model says one letter whatever it is asked."""
    chosen = inputs.report.chosen
    if chosen is None or not chosen.right:
        return None
    drawings = []
    for number, (metric, tuned) in enumerate(chosen.tuned.items()):
        title = f"By {words(metric)}"
        drawings.append(charts.letters(f"letters{number}", title, chosen.right, chosen.base.get(metric, {}), tuned))
    return Section("letters", "Letters chosen", {"drawings": drawings[:4]}) if drawings else None


def calibration(inputs: Inputs) -> Section | None:
    """Whether a model is right as often as it is sure."""
    found = {side: one for side, one in inputs.report.calibration.items() if one.bins and side in ("base", "tuned")}
    if not found:
        return None
    return Section("calibration", "Calibration", {"drawings": [charts.reliability(found)]})


def judge(inputs: Inputs) -> Section | None:
    """What a judge said, as names and values."""
    facts = [(sentence(short(words(name), 80)), short(text, 400)) for name, text in inputs.report.judge]
    return Section("judge", "Judge", {"facts": facts}) if facts else None


def _left_out(found: list[Slice]) -> int:
    return max(0, len(found) - _MAX_SLICES)
