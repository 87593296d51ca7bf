"""FineTuneJobs for a real API server, and what their trainers report."""

from __future__ import annotations

import json
from typing import Any

from finetune_api.base import canonical_json
from finetune_api.names import CONFIG_ANNOTATION

ADAPTER = {"uri": "pvc://models/run/adapter", "sha256": "b" * 64, "sizeBytes": 45, "files": 3}
TRAINING = {"steps": 200, "firstLoss": "2.31", "finalLoss": "0.312", "runtimeSeconds": 102, "trainedTokens": 10200}
EVALUATION = {
    "summary": "0.41→0.45",
    "examples": 1273,
    "metrics": [
        {
            "name": "Accuracy",
            "base": {"value": "0.412"},
            "tuned": {"value": "0.447"},
            "difference": "0.035",
            "pValue": "0.012",
        }
    ],
}


def job(name: str, namespace: str, *, evaluated: bool = True, **runtime: Any) -> dict[str, Any]:
    """A small FineTuneJob with an output folder of its own."""
    evaluation = {"evaluation": {"dataset": {"source": "pvc://data/rows"}}} if evaluated else {}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "pvc://models/base"},
            "dataset": {"source": "pvc://data/rows"},
            "output": {"destination": f"pvc://models/{name}"},
            "scheduling": {"backoffLimit": 0},
            "runtime": runtime,
            **evaluation,
        },
    }


def config(world: Any, name: str, stage: str = "train") -> dict[str, Any]:
    """The configuration that the pods of a stage read, from its Job."""
    annotations = world.get("jobs", f"{name}-{stage}")["spec"]["template"]["metadata"]["annotations"]
    read: dict[str, Any] = json.loads(annotations[CONFIG_ANNOTATION])
    return read


def message(world: Any, name: str, stage: str, **sections: Any) -> str:
    """A termination message as the trainer would write it for this very job."""
    read = config(world, name, "train" if stage == "Train" else "eval")
    digests = {digest: read[digest] for digest in ("trainingSha256", "evaluationSha256") if digest in read}
    head = {"version": 1, "stage": stage, "jobUID": read["job"]["uid"], "finishedAt": "2026-01-01T00:00:00Z"}
    return canonical_json(head | digests | sections)


def trained(world: Any, name: str) -> str:
    """The trainer's result."""
    return message(world, name, "Train", training=TRAINING, adapter=ADAPTER, memory={"summary": "1.3/79 GiB (1.7%)"})


def reason(status: Any) -> str:
    """The reason of Succeeded."""
    found = status.condition("Succeeded")
    return found.reason if found else ""


def words(status: Any) -> str:
    """The message of Succeeded."""
    found = status.condition("Succeeded")
    return found.message if found else ""
