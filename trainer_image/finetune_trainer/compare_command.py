"""The command ``finetune compare``: finished runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from finetune_trainer.finished_runs import find_runs
from finetune_trainer.run_comparison import compare, document
from finetune_trainer.stage.console import say


def compare_runs(places: Sequence[Path], as_json: bool) -> int:
    """Shows the finished runs at some places. Returns 0.

    Raises StageError (InvalidSpec) for a place without a finished run.
    """
    comparison = compare(find_runs(places))
    if as_json:
        say(json.dumps(document(comparison), ensure_ascii=False, indent=2))
    else:
        from finetune_trainer.compare_tables import print_comparison

        print_comparison(comparison)
    return 0
