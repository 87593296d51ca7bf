"""The commands of ``kubectl finetune``."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from finetune_cli import result, text
from finetune_cli.client import connect
from finetune_cli.errors import CliError
from finetune_cli.fetch import fetch_page, write_page
from finetune_cli.follow import Clock, Follower
from finetune_cli.main import INTERRUPTED
from finetune_cli.screen import screen_for
from finetune_cli.watch import watch_until_over

FAILED = 1
UNKNOWN = 3  # 2 is a mistake on the command line
LOG_WIDTH = 160

app = typer.Typer(
    name="kubectl-finetune",
    no_args_is_help=True,
    add_completion=False,
    help="Look after FineTuneJobs.",
    rich_markup_mode=None,
)


def duration(value: str) -> float:
    """Seconds of a duration such as 90s, 10m or 1h30m. Raises BadParameter for any other text."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not (total := hours * 3600 + minutes * 60 + seconds):
        raise typer.BadParameter(f"{value!r} is no duration such as 90s, 10m or 1h30m")
    return float(total)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the FineTuneJob.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace. Default: the context's own.", show_default=False)
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, or ~/.kube/config.", show_default=False),
]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.", show_default=False)
]
Timeout = Annotated[
    float | None,
    typer.Option(
        parser=duration,
        metavar="DURATION",
        help="Stop watching after this time, such as 90s, 10m or 1h30m; a job that is not there is awaited as long. "
        "Default: watch until the job ends; a job that is not there is awaited for 3s.",
        show_default=False,
    ),
]

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Where to save it. Default: NAME-report.html.", show_default=False
    ),
]


@app.callback()
def group() -> None:
    """Look after FineTuneJobs."""


@app.command()
def watch(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Timeout = None,
) -> None:
    """Watch a FineTuneJob until it ends, and print its result.

    Exit codes: 0 the job succeeded, 1 it failed, 2 a mistake on the command line, 3 its end was not seen (no such job,
    deleted, out of time, no connection), 130 Ctrl-C: watching stops, the job goes on.
    """
    console = _console()
    given = {"-n": namespace, "--kubeconfig": kubeconfig, "--context": context}
    options = [f"{option} {shlex.quote(str(value))}" for option, value in given.items() if value]
    again = " ".join(["kubectl finetune watch", shlex.quote(name), *options])
    with _ending_clearly(f"stopped watching; the job goes on, and {again} shows it again"):
        jobs = connect(kubeconfig, context, namespace)
        follower = Follower(jobs, name, timeout, Clock(time.monotonic, time.sleep))
        job = watch_until_over(follower.updates(), screen_for(console, _now), _now)
    console.print(result.render(job))
    raise typer.Exit(0 if job.status.holds("Succeeded") else FAILED)


@app.command()
def report(
    name: Name,
    output: Output = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    in_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Save the report page of a FineTuneJob's evaluation.

    A pod in the job's namespace reads it from the output's claim and is deleted afterwards, whatever happens. Exit
    codes: 0 saved, 2 a mistake on the command line, 3 there is no page or it can't be had, 130 Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # then, too, the pod is deleted
    with _ending_clearly("stopped; nothing was saved, and the pod that read the page is deleted"):
        jobs = connect(kubeconfig, context, namespace)
        page = fetch_page(jobs, name, secrets.token_hex(4), Clock(time.monotonic, time.sleep))
        file = write_page(page, output or Path(f"{name}-report.html"))
    _tell(f"report: {file}")
    if in_browser and not webbrowser.open(file.resolve().as_uri()):
        _tell("no browser could be started: open the file in one")


@contextmanager
def _ending_clearly(stopped: str) -> Iterator[None]:
    try:
        yield
    except CliError as error:
        _tell(f"error: {error}")
        raise typer.Exit(UNKNOWN) from error
    except KeyboardInterrupt as stop:
        _tell(stopped)
        raise typer.Exit(INTERRUPTED) from stop


def _tell(message: str) -> None:
    Console(stderr=True, highlight=False).print(text.clean(message), markup=False, soft_wrap=True)


def _console() -> Console:
    """Standard output; where it is no terminal and COLUMNS says nothing, wide enough not to fold a URI."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console


def _now() -> datetime:
    return datetime.now().astimezone()
