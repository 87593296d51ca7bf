"""The smallest FineTuneJob, and others made from it."""

from __future__ import annotations

import copy
from typing import Any

from finetune_api.spec import FineTuneJobSpec

MINIMAL: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "minimal", "namespace": "default"},
    "spec": {
        "model": {"source": "hf://owner/model"},
        "dataset": {"source": "pvc://data/rows.jsonl"},
        "output": {"destination": "pvc://models/minimal"},
    },
}


def job_with(path: str = "", value: Any = None, name: str = "minimal") -> dict[str, Any]:
    """The minimal job with one field of its spec set, by a dotted path."""
    result = copy.deepcopy(MINIMAL)
    result["metadata"]["name"] = name
    *parents, leaf = path.split(".")
    target = result["spec"]
    for parent in parents:
        target = target.setdefault(parent, {})
    if leaf:
        target[leaf] = value
    return result


def spec_with(path: str = "", value: Any = None) -> FineTuneJobSpec:
    """The minimal spec with one field set, by a dotted path."""
    return FineTuneJobSpec.model_validate(job_with(path, value)["spec"])
