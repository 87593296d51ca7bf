"""Packed training on a real GPU, against unpacked training of the same rows: tests/gpu/packing.py measures both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("packing.py")
# For a try of these tests themselves on a CPU: FINETUNE_PACKING_ARGUMENTS="--tiny --batches 4 8 --steps 12".
ARGUMENTS = os.environ.get("FINETUNE_PACKING_ARGUMENTS", "").split()


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the script measured for each batch size."""
    file = tmp_path_factory.mktemp("packing") / "figures.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", str(file), *ARGUMENTS], capture_output=True, text=True
    )
    print(done.stdout[-6000:], done.stderr[-4000:])
    assert done.returncode == 0
    found: list[dict[str, Any]] = json.loads(file.read_text())["batches"]
    return found


def test_the_attention_of_a_llama_is_proven_to_keep_packed_examples_apart(figures: list[dict[str, Any]]) -> None:
    assert [one["problem"] for one in figures if not one["layout"]] == []


def test_packed_steps_have_the_losses_of_unpacked_ones_within_what_rounding_does(figures: list[dict[str, Any]]) -> None:
    for one in figures:
        # Two unpacked runs differ, too: one takes its batch in halves.
        assert one["apart"] <= max(3 * one["noise"], 5e-3), one
        assert len(set(one["packed"]["losses"])) > 1


def test_a_packed_run_gives_the_same_losses_again_within_what_rounding_does(figures: list[dict[str, Any]]) -> None:
    for one in figures:
        assert one["again"] <= max(3 * one["noise"], 5e-3), one


def test_packing_leaves_less_padding_in_no_more_memory(figures: list[dict[str, Any]]) -> None:
    for one in figures:
        packed, unpacked = one["packed"], one["unpacked"]
        assert packed["padding"] < 0.5 * unpacked["padding"]
        assert packed["tokens_per_second"] > 0
        if packed["peak_bytes"]:
            assert packed["peak_bytes"] <= 1.1 * unpacked["peak_bytes"]
