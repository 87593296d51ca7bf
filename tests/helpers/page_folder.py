"""A run's folder with everything that a report page shows, without having trained anything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from finetune_api.run_folder import DATASET, EVALUATIONS, METRICS, REPORT, RESULT, SPEC

DIGEST = {"training": "a" * 64, "evaluation": "b" * 64}
EXECUTES = "<script>document.title='executed'</script><img src=x onerror=\"document.title='executed'\">"
ESCAPES = "\x1b[31mred\x1b]0;title\x07 \u202egnp.exe\u202c \u2066in\u2069 \x00 \ud800 \ufeff"
HOSTILE = f"{EXECUTES} {{{{ 7 * 7 }}}} </style></svg> {ESCAPES} & \"quoted\" 'so' $x_1$"


def interval(low: float, high: float) -> dict[str, str]:
    return {"low": f"{low:g}", "high": f"{high:g}"}


def metric(name: str, base: float, tuned: float, p: str = "", **more: Any) -> dict[str, Any]:
    """A metric with intervals around both values."""
    values = {
        side: {"value": f"{value:g}", "interval95": interval(max(0, value - 0.1), min(1, value + 0.1))}
        for side, value in (("base", base), ("tuned", tuned))
    }
    test = {"pValue": p, "pairedTest": {"name": "McNemar exact", "baseOnly": 4, "tunedOnly": 21}} if p else {}
    return {"name": name, **values, "difference": f"{tuned - base:g}", **test, **more}


def write_folder(run: Path, text: str = "plain", **evaluation: Any) -> Path:
    """Writes a run's folder with one evaluation, whose folder is returned. ``text`` stands wherever a row may speak."""
    folder = run / EVALUATIONS / DIGEST["evaluation"][:12]
    folder.mkdir(parents=True)
    _write(folder / REPORT, report(text, **evaluation))
    plain = text.replace("\ud800", "")  # the trainer can't have written one to a result
    _write(folder / RESULT, result("Evaluate", evaluation=report(plain, **evaluation)["evaluation"]))
    _write(folder / SPEC, spec())
    _write(run / RESULT, training_result(plain))
    _write(run / DATASET, dataset(text))
    steps = [
        {"step": step, "epoch": 0.1, "loss": 1 + math.exp(-step / 9), "learningRate": 1e-3 * (1 - step / 48),
         "gradientNorm": 1.0, "tokensPerSecond": 900 + step, "reservedBytes": 2**30 + step}
        for step in range(1, 49)
    ]  # fmt: skip
    looks = [{"step": step, "validationLoss": 1.2 + abs(step - 32) / 40, "retentionPerplexity": 6 + step / 40}
             for step in range(8, 49, 8)]  # fmt: skip
    lines = [*steps, {"step": 48, "loss": "nan"}, *looks]
    (run / METRICS).write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"step": 49, "lo')
    return folder


def report(text: str = "plain", **evaluation: Any) -> dict[str, Any]:
    """report.json with every part that is known."""
    said = {"answer": f"The answer is {text}", "cut": False, "names": "Option", "option": "A", "right": False}
    right = {"answer": f"The correct answer is {text}", "cut": True, "names": "NoSuchOption"}
    return {
        "version": 1,
        "job": {"namespace": "ml", "name": text},
        "definitions": {"Accuracy": text, "pairedTest": "McNemar's exact test"},
        "evaluation": {
            "summary": "0.25→0.75",
            "examples": 48,
            "sharedExamples": 2,
            "metrics": [
                metric("Accuracy", 0.25, 0.75, "0.00091"),
                metric("LetterAccuracy", 0.5, 0.45, "0.61"),
                {"name": "Perplexity", "base": {"value": "12.4"}, "tuned": {"value": "3.1"}, "difference": "-9.3"},
                {"name": "Made", "tuned": {"value": "17"}},
                {"name": "BLEU", "omitted": text[:200]},
            ],
            "retention": {"examples": 10, "metrics": [metric("Perplexity", 6.1, 6.9)]},
            "latency": [
                {"name": "Merged", "precision": "bfloat16", "firstTokenMilliseconds": "31", "tokensPerSecond": "58"}
            ],
            "gates": [{"metric": "Accuracy", "verdict": "Passed", "message": text[:200]}],
            "slices": [{"name": text[:60], "examples": 9, "metrics": [metric("Accuracy", 0.2, 0.6)]}],
            "reportURI": "pvc://models/runs/x/aaaaaaaaaaaa/evaluations/bbbbbbbbbbbb/report.json",
            **evaluation,
        },
        "agreement": {"base": {"checked": 32, "different": 1, "missed": 0}},
        "chosen": {
            "right": {"A": 12, "B": 12, text[:16]: 12, "D": 12},
            "base": {"Accuracy": {"A": 40, "B": 8}},
            "tuned": {"Accuracy": {"A": 12, "B": 14, text[:16]: 11, "D": 11}},
        },
        "samples": [{"sha256": "c" * 64, "prompt": text, "expected": text, "base": said, "tuned": right}],
        "answers": {"base": {"answers": 48, "empty": 3}, "tuned": {"answers": 48, "empty": 0}},
        "details": {
            "CalibrationError": {
                "base": {"bins": [{"from": 0.2, "to": 0.3, "rows": 9, "meanProbability": 0.26, "shareRight": 0.22}]},
                "tuned": {"bins": [{"from": 0.8, "to": 0.9, "rows": 39, "meanProbability": 0.84, "shareRight": 0.77}]},
            }
        },
        "baselines": {"guessing": 0.25, "mostFrequentLetter": {"letter": "A", "share": 0.27}},
        "judge": {"tuned": {"relevance": 4.5}, "agreement": text},
        "rows": [],
    }  # fmt: skip


def result(stage: str, **sections: Any) -> dict[str, Any]:
    """A stage's result.json."""
    evaluated = {"evaluationSha256": DIGEST["evaluation"]} if stage == "Evaluate" else {}
    return {
        "version": 1,
        "stage": stage,
        "jobUID": "uid-1",
        "trainingSha256": DIGEST["training"],
        **evaluated,
        "finishedAt": "2026-01-02T03:04:05Z",
        "lineage": {"modelSha256": "d" * 64, "seed": 7, "mixture": [{"name": "chat", "revision": "e" * 40}]},
        "stageLineage": {"device": "CPU", "trainerVersion": "0.1.0", "packages": "torch==2.0 peft==0.18"},
        **sections,
    }


def training_result(text: str) -> dict[str, Any]:
    """The training's result.json."""
    return result(
        "Train",
        training={
            "steps": 48, "runtimeSeconds": 73, "firstLoss": "2", "finalLoss": "1.1", "bestStep": 32,
            "validationLoss": "1.2",
        },
        adapter={"uri": "pvc://models/runs/x/aaaaaaaaaaaa/adapter", "sha256": "f" * 64, "sizeBytes": 9, "files": 2},
        memory={"summary": "1.3/79 GiB (1.7%)"},
        advice=[{"reason": "FewExamples", "message": f"few examples {text[:300]}"}],
    )  # fmt: skip


def dataset(text: str) -> dict[str, Any]:
    """dataset.json."""
    dropped = [{"name": "NearDuplicate", "rows": 20}, {"name": "TooLong", "rows": 16}]
    return {
        "status": {"summary": "300 of 336 rows", "rows": 336, "examples": 300, "dropped": dropped},
        "sample": text,
    }


def spec() -> dict[str, Any]:
    """spec.json."""
    return {
        "method": "QLoRA",
        "model": {"source": "pvc://models/smollm2"},
        "dataset": {"source": "pvc://models/rows"},
        "training": {"maxSteps": 48},
        "evaluation": {"dataset": {"source": "pvc://models/rows"}},
    }


def _write(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document))  # ASCII: JSON can carry a lone surrogate so, UTF-8 can't
