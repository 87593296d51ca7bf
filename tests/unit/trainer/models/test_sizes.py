"""How much a run trains and writes, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.models.sizes import Sizes
from trainer_inputs import run_config

SPEC: dict[str, Any] = {
    "model": {"source": "pvc://work/model"},
    "dataset": {"source": "pvc://work/rows"},
    "output": {"destination": "pvc://work/out"},
    "training": {"checkpoint": {"keep": 3}},
}
MIB = 1 << 20


@pytest.mark.parametrize(
    ("method", "changes", "artefacts"),
    [
        ("QLoRA", {}, 4 * 100 + 7),
        ("QLoRA", {"output": {"destination": "pvc://work/out", "formats": ["Adapter", "Merged16Bit"]}}, 407 + 2007),
        ("LoRA", {"lora": {"initialization": "PiSSA"}}, 2 * 4 * 100 + 7),
    ],
)
def test_room_is_for_drafts_beside_an_earlier_attempts_artefacts_and_one_more_checkpoint(
    method: str, changes: dict[str, Any], artefacts: int
) -> None:
    spec, sizes = run_config({**SPEC, "method": method, **changes}, {}).spec, Sizes(base=1000, trained=100)
    # Weights in 32 bit, and two moments of each in 8 or 32 bit.
    assert sizes.room_needed(spec, 7) == 2 * artefacts + MIB
    assert sizes.checkpoint_room(spec, "AdamW8bit") == 4 * 100 * (4 + 2)
    assert sizes.checkpoint_room(spec, "AdamW") == 4 * 100 * (4 + 8)


def test_with_early_stopping_there_is_room_for_the_best_checkpoint_beside_the_newest() -> None:
    training = {**SPEC["training"], "earlyStopping": {}}
    validation = {"source": "pvc://work/rows", "validation": {"fraction": "0.1"}}
    plain, stopped = (
        run_config({**SPEC, **changes}, {}).spec for changes in ({}, {"training": training, "dataset": validation})
    )
    sizes = Sizes(base=1000, trained=100)
    assert sizes.checkpoint_room(plain, "AdamW") == 4 * 100 * 12
    assert sizes.checkpoint_room(stopped, "AdamW") == 5 * 100 * 12


def test_method_full_saves_the_model_alone() -> None:
    spec = run_config({**SPEC, "method": "Full"}, {}).spec
    assert Sizes(base=1000, trained=1000).artefact_bytes(spec, 7) == 2007
