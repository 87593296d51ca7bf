"""What of a job can be looked at without GPU and weights, and how it ends when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, TypeVar

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason, exit_code
from finetune_trainer.stage.console import say
from finetune_trainer.stage.environment import prepare_environment
from finetune_trainer.stage.failure import failure_of

if TYPE_CHECKING:
    from finetune_trainer.models.reading import ReadRows
    from finetune_trainer.sources.locate import Sources

T = TypeVar("T")


def run_dry(config: RunConfig, work: Callable[[], T]) -> tuple[T | None, int]:
    """What ``work`` finds, or None and the exit code that a stage would give, once a line has said why.

    What a stage would log meanwhile goes to standard error.
    """
    prepare_environment(config)
    try:
        with redirect_stdout(sys.stderr):
            return work(), 0
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error)
        say(f"{failure.reason}: {failure.message}")
        return None, exit_code(Reason(failure.reason))


def prepare_rows(config: RunConfig) -> ReadRows:
    """The rows of a job as the training would take them. Raises StageError as the training would."""
    return prepare_rows_and_sources(config)[1]


def prepare_rows_and_sources(config: RunConfig) -> tuple[Sources, ReadRows]:
    """The same, and where all lies: a model's tokenizer and configuration, without its weights."""
    from finetune_trainer.data.prepare import load_compared, load_held_out
    from finetune_trainer.models.reading import read_rows
    from finetune_trainer.sources.locate import locate

    sources = locate(config, None, with_weights=False)
    held_out = load_held_out(config, sources)
    load_compared(config, held_out)
    return sources, read_rows(config, sources, held_out)
