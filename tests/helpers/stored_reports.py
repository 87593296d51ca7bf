"""Reports with made-up scores, as report.json has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from finetune_trainer.sources.stored_report import ComparedReport, StoredReport

URI = "pvc://models/june/report.json"


def sha_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def chosen(right: bool) -> dict[str, Any]:
    return {"Accuracy": {"option": "A" if right else "B", "right": right}}


def likelihood(log_likelihood: float, tokens: int = 10) -> dict[str, Any]:
    return {"Perplexity": {"rightLogLikelihood": log_likelihood, "rightTokens": tokens}}


def report_of(
    base: Sequence[dict[str, Any]] | None,
    tuned: Sequence[dict[str, Any]],
    retention: Iterable[tuple[dict[str, Any], dict[str, Any]]] = (),
    first: int = 0,
) -> StoredReport:
    """A report of rows that are numbered from ``first``, by what each model's metrics kept of them."""
    sides = [{"tuned": one} for one in tuned]
    if base is not None:
        sides = [{**one, "base": other} for one, other in zip(sides, base, strict=True)]
    rows = [{"sha256": sha_of(number), **one} for number, one in enumerate(sides, start=first)]
    kept = [{"sha256": sha_of(number), "base": one, "tuned": other} for number, (one, other) in enumerate(retention)]
    return StoredReport.model_validate({"rows": rows, "retentionRows": kept})


def accuracies(both: int, better: int, worse: int, neither: int) -> StoredReport:
    """Rows that both models, only the tuned one, only the base model, or neither has right."""
    base = [True] * both + [False] * better + [True] * worse + [False] * neither
    tuned = [True] * both + [True] * better + [False] * worse + [False] * neither
    return report_of([*map(chosen, base)], [*map(chosen, tuned)])


def compared(report: StoredReport) -> dict[str, ComparedReport]:
    return {URI: ComparedReport("spec.evaluation.gates[0].notWorseThan.report", URI, "c" * 64, report)}
