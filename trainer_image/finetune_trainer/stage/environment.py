"""Environment variables that libraries read when they are imported, set before any of them is."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.sources import sources_of
from finetune_api.uris import HubSource, parse_source


def prepare_environment(config: RunConfig) -> None:
    """Sets what the libraries must see. Call it before importing torch, datasets or Unsloth."""
    os.environ.update(environment(config))
    # Neither torchao's deprecation notices nor bitsandbytes' wish for kernels from the hub tell a user anything.
    for name in ("torch.utils._pytree", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The image names a place below /tmp. Elsewhere Unsloth would write into the working directory.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / "unsloth_compiled_cache"))


def environment(config: RunConfig) -> dict[str, str]:
    """The variables for a run, by name."""
    variables = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_ERROR_REPORTING": "false",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        # Rows are tokenised in threads of ours, a batch in each; more threads within a batch would wait for each other.
        "TOKENIZERS_PARALLELISM": "false",
    }
    if config.spec.runtime.gpus_per_node:
        variables["UNSLOTH_DISABLE_CPU_FALLBACK"] = "1"
    else:
        # Hidden, so that no library takes a GPU that the job did not ask for.
        variables |= {"UNSLOTH_FORCE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
        # Threads that wait for each other sleep. Spinning, they made a step ten times slower on a shared node.
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
    if not _needs_hub(config):
        variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return variables


def _needs_hub(config: RunConfig) -> bool:
    return any(isinstance(parse_source(one.uri), HubSource) for one in sources_of(config.spec))
