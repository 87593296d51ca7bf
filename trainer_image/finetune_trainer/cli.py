"""The command line: ``train`` and ``evaluate`` run a stage in its pod, ``run`` a whole job without a cluster.

``data`` shows what a job would train on, ``plan`` what it would do, ``compare`` what finished runs came to,
``verify`` whether an evaluation comes out again, ``report`` makes its page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from finetune_api.names import CONFIG_DIRECTORY, CONFIG_FILE
from finetune_api.reasons import Reason, exit_code
from finetune_api.stages import BY_COMMAND, EVALUATE, TRAIN
from finetune_trainer.compare_command import compare_runs
from finetune_trainer.data_command import show_rows
from finetune_trainer.local_run import local_config, read_job, run_locally
from finetune_trainer.plan_command import gpu_sizes, show_plan
from finetune_trainer.report_command import make_page
from finetune_trainer.stage.config import load_config
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage_runner import run_stage
from finetune_trainer.verify_command import verify_report

_HELP = {TRAIN: "fine-tune and save the adapter", EVALUATE: "score base against tuned"}

_OF_A_JOB = ("run", "data", "plan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code, as in :mod:`finetune_api.reasons`."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "compare":
            return compare_runs(options.runs, options.json)
        if options.command == "verify":
            return verify_report(options.report, options.mount, Path.cwd())
        if options.command == "report":
            return make_page(options.report, options.output, options.open)
        if options.command in _OF_A_JOB:
            return _of_a_job(options)
        config = load_config(options.config)
    except (StageError, KeyboardInterrupt) as error:
        return _end(error)
    return run_stage(BY_COMMAND[options.command], config, options.termination_log, options.progress_fd)


def _end(error: StageError | KeyboardInterrupt) -> int:
    failure = failure_of(error)
    say(f"{failure.reason}: {failure.message}")
    return exit_code(Reason(failure.reason))


def _of_a_job(options: argparse.Namespace) -> int:
    gpus = gpu_sizes(options.gpu_memory) if options.command == "plan" else ()
    config = local_config(read_job(options.job), options.mount, options.output, Path.cwd())
    if options.command == "run":
        return run_locally(config)
    return show_plan(config, gpus) if options.command == "plan" else show_rows(config, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="finetune", description="Fine-tunes a language model and evaluates it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for stage, text in _HELP.items():
        command = commands.add_parser(stage.command, help=text, description=f"One stage of a job: {text}.")
        command.add_argument("--config", type=Path, default=Path(CONFIG_DIRECTORY) / CONFIG_FILE, help="the run's JSON")
        command.add_argument("--termination-log", type=Path, help="where the result goes (default: the pod's own)")
        command.add_argument(
            "--progress-fd", type=int, help="a file descriptor for progress, a JSON line for each push"
        )
    run = commands.add_parser(
        "run",
        help="run a job's YAML here, without a cluster",
        description="Runs a FineTuneJob here, without a cluster, from the file that kubectl would apply. A claim "
        "without --mount is the folder of its name in the working directory, if there is one.",
    )
    data = commands.add_parser(
        "data",
        help="show what a job's YAML would train on",
        description="Prepares the rows of a FineTuneJob here, without GPU and weights, and shows what becomes of them. "
        "A run of the same job then takes the prepared rows.",
    )
    data.add_argument("--json", action="store_true", help="print the document that a run writes to dataset.json")
    plan = commands.add_parser(
        "plan",
        help="show what a job's YAML would do",
        description="Shows steps, adapter, room and memory of a FineTuneJob, without GPU and weights. Its rows are "
        "prepared for that; a run of the same job then takes them.",
    )
    plan.add_argument(
        "--gpu-memory",
        action="append",
        default=[],
        metavar="SIZE",
        help="a GPU's memory, such as 80GiB, to estimate for; again for each (default: some usual sizes)",
    )
    for command in (run, data, plan):
        command.add_argument("job", type=Path, help="a FineTuneJob in YAML")
        command.add_argument("--output", type=Path, help="a folder in place of the output's claim (default: ./runs)")
        command.add_argument(
            "--mount", action="append", default=[], metavar="CLAIM=FOLDER", help="a folder for a claim"
        )
    compare = commands.add_parser(
        "compare",
        help="show finished runs side by side",
        description="Shows in what the specs of finished runs differ, and what each came to: a column for each run.",
    )
    compare.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="a run's folder, its result.json, or a folder that holds run folders",
    )
    compare.add_argument("--json", action="store_true", help="print the same as JSON")
    verify = commands.add_parser(
        "verify",
        help="evaluate again and say whether a report's figures hold",
        description="Scores base and tuned once more, on the model and the rows that the evaluation's lineage names, "
        "and compares. Nothing of the run is changed.",
    )
    verify.add_argument(
        "report",
        type=Path,
        metavar="REPORT",
        help="an evaluation's report.json, its folder, or a run's folder: then its newest evaluation",
    )
    verify.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="CLAIM=FOLDER",
        help="a folder for a claim that model or rows come from; again for each",
    )
    report = commands.add_parser(
        "report",
        help="make the page of an evaluation",
        description="Makes an evaluation's report.html from the files of its run: one page that needs no network. "
        "The evaluation itself leaves it beside report.json; this makes it anew, or elsewhere.",
    )
    report.add_argument(
        "report",
        type=Path,
        metavar="REPORT",
        help="an evaluation's report.json, its folder, or a run's folder: then its newest evaluation",
    )
    report.add_argument("--output", type=Path, metavar="FILE", help="where the page goes (default: beside report.json)")
    report.add_argument("--open", action="store_true", help="open it in a browser")
    return parser
