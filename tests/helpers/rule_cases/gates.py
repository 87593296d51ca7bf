"""Gates of an evaluation: what they may ask, and what must stand beside them."""

from __future__ import annotations

from typing import Any

from rule_cases.places import Case, rows

_REPORT = "pvc://models/june/report.json"


def gated(*gates: dict[str, Any], **evaluation: Any) -> dict[str, Any]:
    """An evaluation with gates, on accuracy unless they say otherwise."""
    return {"dataset": rows(), "gates": [{"metric": "Accuracy", **gate} for gate in gates], **evaluation}


def _worse(**fields: Any) -> dict[str, Any]:
    return {"notWorseThan": {"report": _REPORT, "margin": "0.02", **fields}}


_MINIMUM = {"minimum": "0.4"}
_RETAINED = {"maximumRetentionLoss": "0.05"}
_GATES: list[tuple[list[dict[str, Any]], bool]] = [
    ([_MINIMUM], True),
    ([_MINIMUM] * 8, True),
    ([_MINIMUM] * 9, False),
    ([], False),
    ([{}], False),
    ([{"minimum": 0.4}], False),
    ([{"minimum": "-0.4"}], False),
    ([{"minimum": "0"}, {"maximum": "12.5"}], True),
    ([{"minimum": "0.4", "maximum": "0.4"}], True),
    ([{"minimum": "0.41", "maximum": "0.4"}], False),
    ([{"minimumGain": "0"}], True),
    ([{"minimumGain": "0.02", "significance": "0.05"}], True),
    ([{"significance": "0.5"}], True),
    ([{"significance": "0.51"}], False),
    ([{"significance": "0"}], False),
    ([_worse()], True),
    ([_worse(report="pvc://models/june/")], True),
    ([_worse(report="hf://owner/june")], False),
    ([_worse(report="pvc://models/../june")], False),
    ([_worse(margin="0")], False),
    ([{"notWorseThan": {"report": _REPORT}}], False),
    ([{"notWorseThan": {"margin": "0.02"}}], False),
    ([{"metric": "Perplexity", "maximum": "9"}], True),
    ([{"metric": "Rouge", **_MINIMUM}], False),
    ([{"metric": "", **_MINIMUM}], False),
]
GATE_CASES: list[Case] = [
    *(("evaluation", gated(*gates), good) for gates, good in _GATES),
    *(
        ("evaluation", gated({"metric": metric, **_RETAINED}, retention=rows()), metric != "LetterAccuracy")
        for metric in ("Accuracy", "Perplexity", "LetterAccuracy")
    ),
]

_SMALLEST = {"model": {"source": "hf://owner/model"}, "dataset": rows(), "output": {"destination": "pvc://models/a"}}


def _spec(*gates: dict[str, Any], **evaluation: Any) -> dict[str, Any]:
    return {**_SMALLEST, "evaluation": gated(*gates, **{"dataset": rows(split="dev"), **evaluation})}


# Each: a spec, and the field that a refusal names, or None where it is accepted.
GATE_SPECS: list[tuple[dict[str, Any], str | None]] = [
    (_spec({}), "evaluation.gates"),
    (_spec(_MINIMUM, metrics=["Accuracy"]), None),
    (_spec(_MINIMUM, metrics=["Perplexity"]), "evaluation.gates"),
    (_spec({"metric": "Perplexity", "maximum": "9"}, _MINIMUM, metrics=["Accuracy"]), "evaluation.gates"),
    (_spec(_MINIMUM, _worse(), compareWithBase=False), None),
    *(
        (_spec(gate, compareWithBase=False, retention=rows()), "evaluation.gates")
        for gate in ({"minimumGain": "0.01"}, {"significance": "0.05"}, _RETAINED)
    ),
    (_spec(_RETAINED), "evaluation.gates"),
    (_spec(_RETAINED, retention=rows()), None),
    # Retention rows are measured whatever evaluation.metrics names.
    (_spec({"metric": "Perplexity", **_RETAINED}, retention=rows(), metrics=["Accuracy"]), None),
    (
        _spec({"metric": "Perplexity", **_RETAINED, **_MINIMUM}, retention=rows(), metrics=["Accuracy"]),
        "evaluation.gates",
    ),
]
