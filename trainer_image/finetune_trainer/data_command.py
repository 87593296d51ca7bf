"""The command ``finetune data``: a job's rows prepared without GPU and weights, as tables in the terminal."""

from __future__ import annotations

import json
import sys

from finetune_api.config import RunConfig
from finetune_trainer.dry_run import prepare_rows, run_dry
from finetune_trainer.stage.console import say


def show_rows(config: RunConfig, as_json: bool) -> int:
    """Prepares the rows of a job and shows what became of them. Returns the exit code that a stage would give."""
    if not config.trust_remote_code:
        # Seconds of import for nothing: a tokenizer and a configuration have no need of it.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    if config.spec.dataset is None:
        return _show_held_out(config, as_json)
    rows, code = run_dry(config, lambda: prepare_rows(config).prepared)
    if rows is None:
        return code
    if as_json:
        document = {**rows.document, "advice": [one.to_api() for one in rows.advice]}
        say(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        from finetune_trainer.data_tables import print_tables

        print_tables(rows.document, rows.advice, config.spec.training_rows.filters)
    return 0


def _show_held_out(config: RunConfig, as_json: bool) -> int:
    """The rows of a job that trains on none."""
    from finetune_trainer.evaluation_plan import plan_rows

    plan, code = run_dry(config, lambda: plan_rows(config))
    if plan is None:
        return code
    if as_json:
        say(json.dumps(plan.document(), ensure_ascii=False, indent=2))
    else:
        from finetune_trainer.evaluation_tables import print_evaluation

        print_evaluation(plan)
    return 0
