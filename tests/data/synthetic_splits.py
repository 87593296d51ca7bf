"""The command line of the scripts here that make rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_splits(
    description: str, folder: Path, make: Callable[[int], Mapping[str, Sequence[Mapping[str, Any]]]]
) -> None:
    """Parses --seed and --output, and writes <split>.jsonl for each split that ``make`` gives for the seed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=700)
    parser.add_argument("--output", type=Path, default=folder)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for split, rows in make(arguments.seed).items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (arguments.output / f"{split}.jsonl").write_text(lines, encoding="utf-8")
