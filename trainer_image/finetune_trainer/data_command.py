"""The command ``finetune data``: a job's rows prepared without GPU and weights, as tables in the terminal."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason, exit_code
from finetune_api.results import Advice
from finetune_trainer.stage.console import say
from finetune_trainer.stage.environment import prepare_environment
from finetune_trainer.stage.failure import failure_of


def show_rows(config: RunConfig, as_json: bool) -> int:
    """Prepares the rows of a job and shows what became of them. Returns the exit code that a stage would give."""
    prepare_environment(config)
    if not config.trust_remote_code:
        # Seconds of import for nothing: a tokenizer and a configuration have no need of it.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    try:
        with redirect_stdout(sys.stderr):  # what a stage would log meanwhile
            document, advice = _prepared(config)
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error)
        say(f"{failure.reason}: {failure.message}")
        return exit_code(Reason(failure.reason))
    if as_json:
        say(json.dumps({**document, "advice": [one.to_api() for one in advice]}, ensure_ascii=False, indent=2))
    else:
        from finetune_trainer.data_tables import print_tables

        print_tables(document, advice, config.spec.dataset.filters)
    return 0


def _prepared(config: RunConfig) -> tuple[dict[str, Any], list[Advice]]:
    from finetune_trainer.data.prepare import load_held_out
    from finetune_trainer.models.reading import read_rows
    from finetune_trainer.sources.locate import locate

    sources = locate(config, None, with_weights=False)
    prepared = read_rows(config, sources, load_held_out(config, sources)).prepared
    return prepared.document, prepared.advice
