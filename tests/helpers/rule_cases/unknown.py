"""Fields that only another place has. kubectl looks at them one object at a time."""

from __future__ import annotations

from typing import Any

from rule_cases.places import mixture, rows

UNKNOWN: list[tuple[str, Any, str]] = [
    ("dataset.columns", {"conversation": "x"}, "spec.dataset.columns.conversation"),
    ("dataset", mixture({"workers": 2}), "spec.dataset.mixture[0].workers"),
    ("dataset", mixture({}, {"filters": {}}), "spec.dataset.mixture[1].filters"),
    ("dataset", mixture({"columns": {"x": "x"}, "format": "Chat"}), "spec.dataset.mixture[0].columns.x"),
    ("dataset.filters", {"minLength": 1}, "spec.dataset.filters.minLength"),
    ("evaluation.dataset", rows(provenance="Human"), "spec.evaluation.dataset.provenance"),
    ("evaluation.dataset", rows(weight="1"), "spec.evaluation.dataset.weight"),
    ("evaluation.dataset", rows(mixture=[]), "spec.evaluation.dataset.mixture"),
    ("dataset.secretRef", {"name": "a", "key": "b"}, "spec.dataset.secretRef.key"),
    ("dataset.validation", rows(weight="1"), "spec.dataset.validation.weight"),
    ("dataset.replay", rows(weight="1"), "spec.dataset.replay.weight"),
    ("model.adapter", {"source": "pvc://models/june", "split": "x"}, "spec.model.adapter.split"),
    ("tracking", {"mlflow": {"url": "https://a"}}, "spec.tracking.mlflow.url"),
]
