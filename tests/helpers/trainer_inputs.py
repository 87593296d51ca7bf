"""A stage's configuration on a folder that stands for a claim, and its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.reasons import Reason
from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.data.load import Rows, load_rows
from finetune_trainer.stage.failure import StageError

ROWS = [
    {"question": f"Which {number}?", "options": ["one", "two"], "answer": "two", "answer_idx": "B"}
    for number in range(3)
]


def make_config(claim: Path, **dataset: Any) -> RunConfig:
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"source": "pvc://work/model"},
            "dataset": {"source": "pvc://work/rows", **dataset},
            "output": {"destination": "pvc://work/out"},
            "runtime": {"gpusPerNode": 0},
        }
    ).resolved()
    return RunConfig(
        job=JobReference(namespace="ml", name="job", uid="uid-1"),
        spec=spec,
        spec_sha256=spec.sha256(),
        mounts=[ClaimMount(claim="work", path=str(claim))],
    )


def read(config: RunConfig) -> Rows:
    return load_rows(config, config.spec.dataset, "", config.spec.dataset.columns)


def refusal(action: Callable[[], object], reason: Reason) -> str:
    with pytest.raises(StageError) as caught:
        action()
    assert caught.value.reason is reason
    return str(caught.value)
