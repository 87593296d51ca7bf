"""What tests on a GPU share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

KEPT = "KEEP_RESULTS"


@pytest.fixture
def keep() -> Callable[[Path, str], None]:
    """Copies a run's result.json to the folder that ``KEEP_RESULTS`` names, for tests without a GPU to read."""

    def copy(run_folder: Path, name: str) -> None:
        if wanted := os.environ.get(KEPT):
            Path(wanted).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run_folder / "result.json", Path(wanted) / f"{name}.json")

    return copy
