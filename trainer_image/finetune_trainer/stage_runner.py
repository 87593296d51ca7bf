"""Runs one stage and turns however it ends into a result, a termination message and an exit code."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason, exit_code
from finetune_api.results import FailureStatus, StageResult
from finetune_api.stages import TRAIN, Stage
from finetune_trainer.stage.console import say
from finetune_trainer.stage.environment import prepare_environment
from finetune_trainer.stage.failure import failure_of
from finetune_trainer.stage.interruption import INTERRUPTION
from finetune_trainer.stage.progress import LINE_INTERVAL_SECONDS, ProgressPusher, http_sender, line_sender
from finetune_trainer.stage.result import failed_result, write_termination_message
from finetune_trainer.stage.writer_lock import release_all


def run_stage(
    stage: Stage, config: RunConfig, termination_log: Path | None, progress_descriptor: int | None = None
) -> int:
    """Runs a stage. Returns the exit code of :mod:`finetune_api.reasons`, 0 for success.

    Progress goes to the file descriptor, a line for each push; without one to the status gateway, if there is one.
    """
    prepare_environment(config)
    _exit_on_sigterm(stage, config, termination_log)
    pusher: ProgressPusher | None = None
    try:
        pusher = _pusher(config, progress_descriptor)
        result = _stage_function(stage, config, pusher)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            # Who types it again in the meantime would break off the last words, and what is released at the end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        failure = failure_of(error)
        if failure.reason == Reason.TRAINER_CRASHED:
            traceback.print_exc(file=sys.stderr)
        return _end_with_failure(stage, config, termination_log, failure)
    finally:
        if pusher:
            pusher.close()
    write_termination_message(termination_log, result)
    return 0


def _pusher(config: RunConfig, descriptor: int | None) -> ProgressPusher | None:
    if descriptor is not None:
        return ProgressPusher(line_sender(descriptor), LINE_INTERVAL_SECONDS)
    return ProgressPusher(http_sender(config.progress)) if config.progress else None


def _stage_function(stage: Stage, config: RunConfig, pusher: ProgressPusher | None) -> StageResult:
    if stage is TRAIN:
        from finetune_trainer.training.train import train

        return train(config, pusher)
    from finetune_trainer.evaluation.evaluate import evaluate

    return evaluate(config, pusher)


def _end_with_failure(stage: Stage, config: RunConfig, termination_log: Path | None, failure: FailureStatus) -> int:
    say(f"{failure.reason}: {failure.message}")
    write_termination_message(termination_log, failed_result(config, stage, failure))
    return exit_code(Reason(failure.reason))


def _exit_on_sigterm(stage: Stage, config: RunConfig, termination_log: Path | None) -> None:
    """Artefacts are written to drafts, so leaving at once is safe, and work that can wait for a step's end says so."""

    def leave(number: signal.Signals) -> None:
        failure = FailureStatus(
            reason=Reason.INTERRUPTED,
            message=f"stopped by {number.name} before the stage was done",
            exit_code=exit_code(Reason.INTERRUPTED),
        )
        # Not say(): print is not re-entrant, and the signal may have come in the middle of one.
        os.write(sys.stdout.fileno(), f"{failure.reason}: {failure.message}\n".encode())
        write_termination_message(termination_log, failed_result(config, stage, failure))
        release_all()
        for child in multiprocessing.active_children():
            child.terminate()
        os._exit(exit_code(Reason.INTERRUPTED))  # no clean-up of libraries, which may hang in the middle of a step

    INTERRUPTION.handle(leave)
