"""A stage's configuration on a folder that stands for a claim, and its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.defaults import resolve
from finetune_api.reasons import Reason
from finetune_api.run_folder import run_folder
from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.stage.failure import StageError

ROWS = [
    {"question": f"Which {number}?", "options": ["one", "two"], "answer": "two", "answer_idx": "B"}
    for number in range(3)
]


def make_config(claim: Path, **dataset: Any) -> RunConfig:
    return run_config(
        {
            "model": {"source": "pvc://work/model"},
            "dataset": {"source": "pvc://work/rows", **dataset},
            "output": {"destination": "pvc://work/out"},
            "runtime": {"gpusPerNode": 0},
        },
        {"work": claim},
    )


def run_config(spec: dict[str, Any], claims: dict[str, Path], uid: str = "uid-1", image: str = "") -> RunConfig:
    """What the operator would write for a spec; ``claims`` are folders by name."""
    resolved = resolve(FineTuneJobSpec.model_validate(spec, extra="forbid"))
    return RunConfig(
        job=JobReference(namespace="ml", name="job", uid=uid),
        spec=resolved,
        training_sha256=resolved.training_sha256(),
        evaluation_sha256=resolved.evaluation_sha256(),
        mounts=[ClaimMount(claim=claim, path=str(folder)) for claim, folder in claims.items()],
        image=image,
    )


def with_method(config: RunConfig, method: str, **sections: Any) -> RunConfig:
    """The same run by another method; ``sections`` are merged into the spec's. Full has no lora."""
    document = config.spec.to_api() | {"method": method}
    document["output"].pop("formats")
    if method == "Full":
        document.pop("lora")
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return run_config(document, {mount.claim: Path(mount.path) for mount in config.mounts})


def with_other_rows(folder: Path) -> None:
    """Validation rows of another world, in which creatures live elsewhere: the better the one is learnt, the worse."""
    rows = [json.loads(line) for line in (folder / "rows" / "train.jsonl").read_text().splitlines()]
    for row in rows:
        letters = sorted(row["options"])
        row["answer_idx"] = letters[(letters.index(row["answer_idx"]) + 1) % len(letters)]
        row["answer"] = row["options"][row["answer_idx"]]
    (folder / "rows" / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:16]))


def folder_of(config: RunConfig) -> Path:
    """Where a run's artefacts lie here, unless another job's are there."""
    return config.local_path(run_folder(config.spec.output.destination, config.training_sha256))


def refusal(action: Callable[[], object], reason: Reason) -> str:
    with pytest.raises(StageError) as caught:
        action()
    assert caught.value.reason is reason
    return str(caught.value)
