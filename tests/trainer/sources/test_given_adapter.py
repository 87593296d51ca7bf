"""An adapter as plain PEFT leaves it, evaluated from wherever somebody may have put it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub_server import running_hub
from s3_server import S3Server

JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: alone}
spec:
  model: {source: "pvc://models/MODEL", maxSequenceLength: 192, adapter: {source: "ADAPTER"}}
  evaluation:
    dataset: {source: "pvc://work/rows"}
    samplePrompts: 3
    maxNewTokens: 24
  output: {destination: "pvc://out/scores"}
  runtime: {gpusPerNode: 0}
"""


def evaluated(run: Any, folder: Path, model: Path, adapter: str, **variables: str) -> tuple[list[Any], dict[str, Any]]:
    """The report's rows and the lineage of ``finetune run`` in a process of its own."""
    file, out = folder / "alone.yaml", folder / "out"
    file.write_text(JOB.replace("MODEL", model.name).replace("ADAPTER", adapter))
    out.mkdir()
    mounts = [f"models={model.parent}", f"work={run.config.mounts[0].path}", f"out={out}"]
    command = [sys.executable, "-m", "finetune_trainer", "run", str(file), *(f"--mount={one}" for one in mounts)]
    # Credentials and endpoint are this test's; other variables, PYTHONPATH among them, the process needs as they are.
    environment = {**os.environ, **variables, "HF_HOME": str(folder / "home"), "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = out.glob("scores/*/evaluations/*/report.json")
    return json.loads(report.read_text())["rows"], json.loads(report.with_name("result.json").read_text())["lineage"]


@pytest.fixture
def plain(run: Any) -> dict[str, bytes]:
    """What PEFT's own save_pretrained writes: no tokenizer, no manifest of ours."""
    names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    return {name: (run.adapter / name).read_bytes() for name in names}


@pytest.fixture
def rows(run: Any) -> list[Any]:
    """Those of the job that trained the adapter."""
    found: list[Any] = json.loads((run.evaluation_folder / "report.json").read_text())["rows"]
    return found


def test_from_a_bucket(
    run: Any, plain: dict[str, bytes], rows: list[Any], s3_server: S3Server, tmp_path: Path, tiny_model: Path
) -> None:
    s3_server.make_bucket("adapters")
    s3_server.put("adapters", {f"june/{name}": content for name, content in plain.items()})
    found, lineage = evaluated(run, tmp_path, tiny_model, "s3://adapters/june", **s3_server.environment)
    assert found == rows
    assert len(lineage["adapterSha256"]) == 64


def test_from_the_hub(run: Any, plain: dict[str, bytes], rows: list[Any], tmp_path: Path, tiny_model: Path) -> None:
    with running_hub() as hub:
        repository = hub.model("acme/june", plain)
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        found, lineage = evaluated(run, tmp_path, tiny_model, "hf://acme/june", **online)
    assert found == rows
    assert lineage["adapterRevision"] == repository.commit_of("main")
