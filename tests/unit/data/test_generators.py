"""The committed synthetic rows are what the scripts beside them write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data"
SPLITS = ("train", "test")
NAMES = ("chat_synthetic", "medqa_synthetic")


def read(folder: Path) -> dict[str, str]:
    return {split: (folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in SPLITS}


def generate(name: str, folder: Path, *arguments: str) -> dict[str, str]:
    command = [sys.executable, str(DATA / f"make_{name}.py"), "--output", str(folder), *arguments]
    subprocess.run(command, check=True)
    return read(folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_rows_are_what_the_generator_writes(name: str, tmp_path: Path) -> None:
    assert generate(name, tmp_path) == read(DATA / name)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_rows(name: str, tmp_path: Path) -> None:
    assert generate(name, tmp_path / "one", "--seed", "1") != generate(name, tmp_path / "two", "--seed", "2")
