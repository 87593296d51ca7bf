"""Runs on a real GPU: Llama-3.2-1B's shape with random weights, the article's settings.

``make test-gpu`` on a machine with an NVIDIA GPU. Random weights learn the rows' form only, so nothing here is about
accuracy; speed and memory do not depend on the weights' values.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.reasons import FAILURES, Reason, exit_code
from finetune_trainer.local_run import local_config, read_job
from llama_shape import LLAMA_1B, save_random

REPOSITORY = Path(__file__).parents[2]
STEPS = 60
GIB = 1024**3
Keep = Callable[[Path, str], None]
EVALUATION = {"dataset": {"source": "pvc://models/rows"}, "maxNewTokens": 16}


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for the claim ``models``: a random 1B model and the synthetic rows."""
    folder = tmp_path_factory.mktemp("claim")
    save_random(LLAMA_1B, folder / "llama", "cuda")
    (folder / "rows").symlink_to(REPOSITORY / "tests/data/medqa_synthetic")
    return folder


def finetune(
    claim: Path, name: str, environment: dict[str, str] | None = None, **spec: Any
) -> subprocess.CompletedProcess[str]:
    """Trains, and with an ``evaluation`` evaluates, by the trainer's own command line; ends below ``runs-<name>``."""
    job = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "pvc://models/llama"},
            "dataset": {"source": "pvc://models/rows"},
            "output": {"destination": f"pvc://models/runs-{name}"},
            **spec,
        },
    }
    file = claim / f"{name}.yaml"
    file.write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "finetune_trainer", "run", str(file), "--mount", f"models={claim}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    print(done.stdout[-6000:], done.stderr[-4000:])
    return done


@pytest.fixture(scope="module")
def run_folder(claim: Path) -> Path:
    """The folder of a run as the article's, trained and evaluated."""
    training = {"batchSize": 8, "maxSteps": STEPS, "loggingSteps": 5}
    assert finetune(claim, "article", training=training, evaluation=EVALUATION).returncode == 0
    return (claim / "runs-article" / "latest").resolve()


@contextmanager
def gpu_with(left_bytes: int) -> Iterator[None]:
    """Another process holds all of the GPU's memory but so much."""
    code = (
        "import torch; free = torch.cuda.mem_get_info()[0];"
        f"held = torch.empty(free - {left_bytes}, dtype=torch.uint8, device='cuda'); print('held', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


def evaluation_of(folder: Path) -> dict[str, Any]:
    """The evaluation of a run, its metrics by name."""
    (result,) = folder.glob("evaluations/*/result.json")
    evaluation: dict[str, Any] = json.loads(result.read_text())["evaluation"]
    return {**evaluation, "metrics": {metric["name"]: metric for metric in evaluation["metrics"]}}


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(folder.joinpath("result.json").read_text())
    return result


def test_the_loss_falls_in_bfloat16_with_eight_bit_adam(run_folder: Path) -> None:
    training = result_of(run_folder)["training"]
    assert training["dtype"] == "bfloat16"
    assert training["steps"] == STEPS
    assert float(training["finalLoss"]) < 0.8 * float(training["firstLoss"])
    assert (training["engine"], training["warmupSteps"]) == ("Unsloth", 5)


def test_the_attention_that_runs_is_the_one_that_repeats(run_folder: Path) -> None:
    import torch

    ampere = torch.cuda.get_device_capability(0) >= (8, 0)
    assert result_of(run_folder)["training"]["attention"] == ("cuDNN" if ampere else "Math")


def test_two_runs_of_a_spec_give_the_same_adapter_to_the_byte(claim: Path, tmp_path: Path) -> None:
    # Step 5 was the first to differ where flash attention's backward ran. Each run compiles its kernels anew.
    training = {"batchSize": 8, "maxSteps": 24, "loggingSteps": 1}
    digests, norms = [], []
    for name in ("first", "second"):
        caches = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "UNSLOTH_COMPILE_LOCATION")
        environment = {variable: str(tmp_path / name / variable) for variable in caches}
        assert finetune(claim, name, environment, training=training).returncode == 0
        folder = (claim / f"runs-{name}" / "latest").resolve()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        norms.append([line["gradientNorm"] for line in lines])
        digests.append(hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest())
    assert norms[0] == norms[1]
    assert digests[0] == digests[1]


def test_a_run_says_whether_it_packed(claim: Path, run_folder: Path) -> None:
    # The synthetic rows are of nearly one length.
    assert result_of(run_folder)["training"]["packing"].startswith("Disabled: it would save ")
    training = {"batchSize": 8, "maxSteps": 4, "loggingSteps": 1}
    rows = {"source": "pvc://models/rows", "packing": "Enabled"}
    assert finetune(claim, "packed", dataset=rows, training=training).returncode == 0
    packed = result_of((claim / "runs-packed" / "latest").resolve())["training"]
    assert packed["packing"] == "Enabled"
    first = float(result_of(run_folder)["training"]["firstLoss"])
    assert float(packed["firstLoss"]) == pytest.approx(first, rel=5e-3)  # of the same rows, as both have one seed


def test_what_was_trained_is_saved_in_32_bit(run_folder: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(run_folder / "adapter" / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in saved.values()} == {"torch.float32"}


def test_the_history_tells_loss_gradient_and_memory(run_folder: Path) -> None:
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(line["gradientNorm"] > 0 and line["reservedBytes"] > 0 for line in lines)


def test_the_whole_batch_fits_a_large_gpu_at_once(run_folder: Path) -> None:
    assert result_of(run_folder)["training"]["microBatchSize"] == 8


def test_peak_memory_is_the_gpus_and_larger_than_the_quantised_model(run_folder: Path) -> None:
    (device,) = result_of(run_folder)["memory"]["devices"]
    assert device["reservedBeforeBytes"] > 0.5e9
    assert device["peakReservedBytes"] > device["reservedBeforeBytes"]
    assert device["peakReservedBytes"] < device["totalBytes"]
    assert device["peakForTrainingBytes"] == device["peakReservedBytes"] - device["reservedBeforeBytes"]


def test_the_report_scores_base_and_tuned_on_every_row(run_folder: Path) -> None:
    evaluation = evaluation_of(run_folder)
    assert evaluation["examples"] == 48
    perplexity = evaluation["metrics"]["Perplexity"]
    assert float(perplexity["tuned"]["value"]) < float(perplexity["base"]["value"])


def test_the_loss_falls_and_every_row_is_scored_in_float16_as_on_a_gpu_without_bfloat16(
    claim: Path, keep: Keep
) -> None:
    model = {"source": "pvc://models/llama", "dtype": "Float16"}
    training = {"batchSize": 8, "maxSteps": STEPS // 2, "loggingSteps": 5}
    assert finetune(claim, "half", model=model, training=training, evaluation=EVALUATION).returncode == 0
    folder = (claim / "runs-half" / "latest").resolve()
    result = result_of(folder)["training"]
    assert result["dtype"] == "float16"
    assert float(result["finalLoss"]) < 0.8 * float(result["firstLoss"])
    assert evaluation_of(folder)["examples"] == 48
    keep(folder, "float16")


def test_a_run_that_does_not_fit_the_gpu_is_out_of_memory_and_leaves_no_run_folder(claim: Path) -> None:
    training = {"batchSize": 64, "microBatchSize": 64, "maxSteps": 2, "gradientCheckpointing": "Disabled"}
    with gpu_with(2 * GIB):  # just what the quantised model needs
        done = finetune(claim, "large", training=training)
    assert done.returncode == exit_code(Reason.OUT_OF_MEMORY)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("OutOfMemory: GPU memory ran out: CUDA out of memory. Tried to allocate ")
    assert last.endswith(f" unallocated; {FAILURES[Reason.OUT_OF_MEMORY].advice}")
    assert "reserved before training" in done.stdout
    assert [one.name for one in (claim / "runs-large").iterdir()] == ["row-cache"]  # prepared rows serve a next try


def test_what_another_process_leaves_of_the_gpu_decides_micro_batch_and_checkpointing(claim: Path, keep: Keep) -> None:
    training = {"batchSize": 64, "maxSteps": 4, "loggingSteps": 1}
    with gpu_with(6 * GIB):
        done = finetune(claim, "shared", training=training)
    assert done.returncode == 0
    folder = (claim / "runs-shared" / "latest").resolve()
    result = result_of(folder)
    assert 0 < result["training"]["microBatchSize"] < 64
    assert result["training"]["gradientCheckpointing"] != "Disabled"
    assert "outOfMemoryRetries" not in result["training"]  # the first choice was right
    (device,) = result["memory"]["devices"]
    assert device["peakReservedBytes"] < 6 * GIB
    keep(folder, "shared-gpu")


def test_a_batch_that_is_too_large_for_the_gpu_shrinks_until_it_fits_and_the_run_says_so(
    claim: Path, keep: Keep
) -> None:
    # The plan is misled: it sees all of the memory, and the trainer may use a part of it.
    limit = (
        "import torch, sys; torch.cuda.set_per_process_memory_fraction(6 * 2**30 / torch.cuda.mem_get_info()[1]);"
        "import runpy; sys.argv[0] = 'finetune_trainer'; runpy.run_module('finetune_trainer', run_name='__main__')"
    )
    job = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "shrinks"},
        "spec": {
            "model": {"source": "pvc://models/llama"},
            "dataset": {"source": "pvc://models/rows"},
            "output": {"destination": "pvc://models/runs-shrinks"},
            "training": {"batchSize": 64, "maxSteps": 2, "loggingSteps": 1, "gradientCheckpointing": "Disabled"},
        },
    }
    file = claim / "shrinks.yaml"
    file.write_text(yaml.safe_dump(job))
    config = local_config(read_job(file), [f"models={claim}"], None, claim)
    (claim / "shrinks.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-c", limit, "train", "--config", str(claim / "shrinks.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-4000:])
    assert done.returncode == 0
    folder = (claim / "runs-shrinks" / "latest").resolve()
    result = result_of(folder)
    assert 0 < result["training"]["microBatchSize"] < 64
    assert "MicroBatchLowered" in [advice["reason"] for advice in result["advice"]]
    assert result["training"]["outOfMemoryRetries"] > 0
    keep(folder, "capped-memory")
