"""Runs on a real GPU: Llama-3.2-1B's shape with random weights, the article's settings.

``make test-gpu`` on a machine with an NVIDIA GPU. Random weights learn the rows' form only, so nothing here is about
accuracy; speed and memory do not depend on the weights' values.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.reasons import FAILURES, Reason, exit_code

REPOSITORY = Path(__file__).parents[2]
STEPS = 60
LEFT_BYTES = 2 * 1024**3
EVALUATION = {"dataset": {"source": "pvc://models/rows"}, "maxNewTokens": 16}
# Of the published config of Llama-3.2-1B; the vocabulary stays whole, though the test's tokenizer uses half of it.
LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}


def tokenizer_folder() -> Path:
    """The tiny test model's folder, which `make models` makes; its tokenizer is SmolLM2's."""
    state = Path(os.environ.get("FINETUNE_STATE_DIR", "/var/lib/finetune-operator"))
    return state / "cache/models/tiny"


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for the claim ``models``: a random 1B model and the synthetic rows."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("claim")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder())
    torch.manual_seed(0)
    config = LlamaConfig(**LLAMA_1B, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    (folder / "rows").symlink_to(REPOSITORY / "tests/data/medqa_synthetic")
    return folder


def finetune(claim: Path, name: str, **spec: Any) -> subprocess.CompletedProcess[str]:
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
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-4000:])
    return done


@pytest.fixture(scope="module")
def run_folder(claim: Path) -> Path:
    """The folder of a run as the article's, trained and evaluated."""
    training = {"batchSize": 8, "maxSteps": STEPS, "loggingSteps": 5}
    assert finetune(claim, "article", training=training, evaluation=EVALUATION).returncode == 0
    return (claim / "runs-article" / "latest").resolve()


@pytest.fixture
def full_gpu() -> Iterator[None]:
    """Another process holds all of the GPU's memory but what the quantised model just needs."""
    code = (
        "import torch; free = torch.cuda.mem_get_info()[0];"
        f"held = torch.empty(free - {LEFT_BYTES}, dtype=torch.uint8, device='cuda'); print('held', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(folder.joinpath("result.json").read_text())
    return result


def test_the_loss_falls_in_bfloat16_with_eight_bit_adam(run_folder: Path) -> None:
    training = result_of(run_folder)["training"]
    assert training["dtype"] == "bfloat16"
    assert training["steps"] == STEPS
    assert float(training["finalLoss"]) < 0.8 * float(training["firstLoss"])


def test_the_whole_batch_fits_a_large_gpu_at_once(run_folder: Path) -> None:
    assert result_of(run_folder)["training"]["microBatchSize"] == 8


def test_peak_memory_is_the_gpus_and_larger_than_the_quantised_model(run_folder: Path) -> None:
    (device,) = result_of(run_folder)["memory"]["devices"]
    assert device["reservedBeforeBytes"] > 0.5e9
    assert device["peakReservedBytes"] > device["reservedBeforeBytes"]
    assert device["peakReservedBytes"] < device["totalBytes"]
    assert device["peakForTrainingBytes"] == device["peakReservedBytes"] - device["reservedBeforeBytes"]


def test_the_report_scores_base_and_tuned_on_every_row(run_folder: Path) -> None:
    evaluation = result_of(run_folder / "report")["evaluation"]
    assert evaluation["examples"] == 48
    assert float(evaluation["tuned"]["perplexity"]) < float(evaluation["base"]["perplexity"])


def test_the_loss_falls_and_every_row_is_scored_in_float16_as_on_a_gpu_without_bfloat16(claim: Path) -> None:
    model = {"source": "pvc://models/llama", "dtype": "Float16"}
    training = {"batchSize": 8, "maxSteps": STEPS // 2, "loggingSteps": 5}
    assert finetune(claim, "half", model=model, training=training, evaluation=EVALUATION).returncode == 0
    folder = (claim / "runs-half" / "latest").resolve()
    result = result_of(folder)["training"]
    assert result["dtype"] == "float16"
    assert float(result["finalLoss"]) < 0.8 * float(result["firstLoss"])
    assert result_of(folder / "report")["evaluation"]["examples"] == 48


@pytest.mark.usefixtures("full_gpu")
def test_a_run_that_does_not_fit_the_gpu_is_out_of_memory_and_leaves_no_adapter(claim: Path) -> None:
    training = {"batchSize": 64, "microBatchSize": 64, "maxSteps": 2, "gradientCheckpointing": "Disabled"}
    done = finetune(claim, "large", training=training)
    assert done.returncode == exit_code(Reason.OUT_OF_MEMORY)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("OutOfMemory: GPU memory ran out: CUDA out of memory. Tried to allocate ")
    assert last.endswith(f" unallocated; {FAILURES[Reason.OUT_OF_MEMORY].advice}")
    assert not list((claim / "runs-large").glob("*/adapter"))
