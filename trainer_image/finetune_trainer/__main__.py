"""``python -m finetune_trainer train|evaluate --config FILE``, and ``run JOB.yaml`` for a run without a cluster."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.names import CONFIG_DIRECTORY, CONFIG_FILE
from finetune_api.reasons import Reason, exit_code
from finetune_trainer.local_run import local_config
from finetune_trainer.stage.config import load_config
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage_runner import run_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code, as in :mod:`finetune_api.reasons`."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "run":
            return _run(local_config(options.job, options.mount))
        config = load_config(options.config)
    except StageError as error:
        say(f"{error.reason}: {error}")
        return exit_code(error.reason)
    return run_stage("Train" if options.command == "train" else "Evaluate", config, options.termination_log)


def _run(config: RunConfig) -> int:
    """Both stages, each in a process of its own as in a cluster."""
    stages = ["train", "evaluate"] if config.spec.evaluation else ["train"]
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        file = Path(folder) / CONFIG_FILE
        file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
        for stage in stages:
            command = [sys.executable, "-m", "finetune_trainer", stage, "--config", str(file)]
            try:
                if code := subprocess.run(command, check=False).returncode:
                    return code
            except KeyboardInterrupt:  # the stage got it, too, and said so
                return exit_code(Reason.INTERRUPTED)
    say(f"artefacts: {config.local_path(config.run_uri)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="finetune", description="Fine-tunes a language model and evaluates it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("train", "fine-tune and save the adapter"), ("evaluate", "score base against tuned")):
        stage = commands.add_parser(name, help=text, description=f"One stage of a job: {text}.")
        stage.add_argument("--config", type=Path, default=Path(CONFIG_DIRECTORY) / CONFIG_FILE, help="the run's JSON")
        stage.add_argument("--termination-log", type=Path, help="where the result goes (default: the pod's own)")
    run = commands.add_parser("run", help="run a job's YAML here, without a cluster")
    run.add_argument("job", type=Path, help="a FineTuneJob in YAML")
    run.add_argument("--mount", action="append", default=[], metavar="CLAIM=FOLDER", help="a folder for a claim")
    return parser


if __name__ == "__main__":
    sys.exit(main())
