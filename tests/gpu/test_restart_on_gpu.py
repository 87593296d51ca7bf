"""Runs on a real GPU that are killed and go on, and each method with what it saves.

A Llama of Llama-3.2-1B's width and two layers: what is compared is bits, whatever the number of layers.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from llama_shape import LLAMA_1B, save_random

REPOSITORY = Path(__file__).parents[2]
SHAPE = {**LLAMA_1B, "num_hidden_layers": 2}
TRAINING = {
    "batchSize": 8,
    "maxSteps": 24,
    "loggingSteps": 1,
    "scheduler": "Cosine",
    "checkpoint": {"everySteps": 7},
}
ADAPTER = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claim")
    save_random(SHAPE, folder / "llama", "cuda")
    (folder / "rows").symlink_to(REPOSITORY / "tests/data/medqa_synthetic")
    return folder


def finetune(claim: Path, name: str, kill_at: int = 0, **spec: Any) -> tuple[int, str]:
    """A local run by the command line, its stage killed when it logs a step. Ends below ``runs-<name>``."""
    job = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "pvc://models/llama"},
            "dataset": {"source": "pvc://models/rows"},
            "output": {"destination": f"pvc://models/runs-{name}", **spec.pop("output", {})},
            **spec,
        },
    }
    file = claim / f"{name}.yaml"
    file.write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "finetune_trainer", "run", str(file), "--mount", f"models={claim}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if kill_at and line.startswith(f"step {kill_at}/"):
            os.killpg(process.pid, signal.SIGKILL)
    output = "".join(lines)
    print(output[-5000:])
    return process.wait(), output


def folder_of(claim: Path, name: str) -> Path:
    return (claim / f"runs-{name}" / "latest").resolve()


def digest_of(claim: Path, name: str) -> str:
    return hashlib.sha256((folder_of(claim, name) / ADAPTER).read_bytes()).hexdigest()


def story_of(claim: Path, name: str) -> list[tuple[Any, ...]]:
    lines = (folder_of(claim, name) / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"], line.get("gradientNorm")) for line in map(json.loads, lines)]


def result_of(claim: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder_of(claim, name) / "result.json").read_text())
    return found


@pytest.mark.parametrize(
    ("method", "lora"),
    [("QLoRA", {"dropout": "0.1"}), ("LoRA", {"initialization": "PiSSA", "rank": 8})],
    ids=["QLoRA-dropout", "LoRA-PiSSA"],
)
def test_a_killed_run_ends_with_the_bytes_of_two_undisturbed_ones(claim: Path, method: str, lora: Any) -> None:
    spec = {"method": method, "training": TRAINING, "lora": lora}
    names = [f"{method.lower()}-{kind}" for kind in ("first", "second", "killed")]
    for name in names[:2]:
        assert finetune(claim, name, **spec)[0] == 0
    assert finetune(claim, names[2], kill_at=10, **spec)[0] == -signal.SIGKILL
    code, output = finetune(claim, names[2], **spec)
    assert code == 0
    assert "going on from checkpoint step-00000007" in output
    assert story_of(claim, names[0]) == story_of(claim, names[1]) == story_of(claim, names[2])
    assert digest_of(claim, names[0]) == digest_of(claim, names[1]) == digest_of(claim, names[2])
    assert result_of(claim, names[0])["training"]["optimizer"] == "AdamW8bit"


@pytest.mark.parametrize("method", ["QLoRA", "LoRA", "Full"])
def test_each_method_saves_what_answers_as_the_trained_model_and_is_scored(claim: Path, method: str) -> None:
    full = method == "Full"
    output = {"formats": ["Merged16Bit"] if full else ["Adapter", "Merged16Bit"]}
    spec = {
        "method": method,
        "training": {"batchSize": 8, "maxSteps": 20, **({"learningRate": "0.0001"} if full else {})},
        "dataset": {"source": "pvc://models/rows", "validation": {"fraction": "0.05"}},
        "evaluation": {"dataset": {"source": "pvc://models/rows"}, "samplePrompts": 1, "maxNewTokens": 8},
        "output": output,
    }
    code, said = finetune(claim, f"method-{method.lower()}", **spec)
    assert code == 0
    assert said.count("loaded back: the saved") == len(output["formats"])
    result = result_of(claim, f"method-{method.lower()}")
    training = result["training"]
    assert float(training["finalLoss"]) < 0.9 * float(training["firstLoss"])
    assert training["dtype"] == "bfloat16"
    assert result["model"]["dtype"] == "bfloat16"
    assert training["validationLoss"]


def test_consolidation_and_retention_run_on_the_gpu(claim: Path) -> None:
    spec = {
        "training": {
            "batchSize": 8,
            "maxSteps": 8,
            "elasticWeightConsolidation": {"strength": "1000", "maxExamples": 16},
        },
        "dataset": {"source": "pvc://models/rows", "replay": {"source": "pvc://models/rows", "split": "test"}},
        "evaluation": {
            "dataset": {"source": "pvc://models/rows"},
            "retention": {"source": "pvc://models/rows"},
            "samplePrompts": 0,
        },
    }
    spec["dataset"]["filters"] = {"maxOverlap": "1", "deduplication": "None"}
    assert finetune(claim, "consolidated", **spec)[0] == 0
    lines = (folder_of(claim, "consolidated") / "metrics.jsonl").read_text().splitlines()
    assert any(json.loads(line).get("penalty") for line in lines)
