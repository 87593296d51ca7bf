"""Runs a stage's process with a live line of progress beneath its log, on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from finetune_api.stages import Stage
from finetune_trainer.progress_line import ProgressLine, before_the_first, read_line

# A process that the stage left behind may hold its ends of the pipes open: what comes after that is not waited for.
_DRAIN_SECONDS = 5.0


def run_with_bar(command: Sequence[str], stage: Stage) -> int:
    """Runs a stage's command with ``--progress-fd`` and shows its log and progress. Returns its exit code.

    Signals are the caller's matter: Ctrl-C reaches the stage, and the line stays until the stage has ended.
    """
    receiver, sender = os.pipe()
    with _bar() as bar, os.fdopen(receiver, "rb") as pushes:
        show = _shower(bar, before_the_first(stage))
        try:
            process = subprocess.Popen(
                [*command, "--progress-fd", str(sender)],
                stdout=subprocess.PIPE,
                # What is written to the terminal past the line would tear it; a file keeps its own.
                stderr=subprocess.STDOUT if sys.stderr.isatty() else None,
                pass_fds=[sender],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        finally:
            os.close(sender)
        assert process.stdout
        readers = [
            _reader(process.stdout, lambda line: bar.console.print(Text.from_ansi(_text(line)), soft_wrap=True)),
            _reader(pushes, lambda line: show(read_line(line, stage))),
        ]
        code = process.wait()
        for reader in readers:
            reader.join(_DRAIN_SECONDS)
    return code


def _bar() -> Progress:
    def text(template: str) -> TextColumn:
        # Cut on a narrow terminal: a line that the terminal wraps could not be drawn over.
        return TextColumn(template, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))

    return Progress(
        SpinnerColumn(),
        text("{task.description}"),
        BarColumn(bar_width=16),
        text("{task.fields[facts]}"),
        console=Console(highlight=False),
        transient=True,  # the log and the table at the end say it all
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _shower(bar: Progress, first: ProgressLine) -> Callable[[ProgressLine | None], None]:
    task = bar.add_task(first.title, total=first.total, facts=first.facts)

    def show(line: ProgressLine | None) -> None:
        if line:
            bar.update(task, description=line.title, completed=line.done, total=line.total, facts=line.facts)

    return show


def _reader(stream: IO[bytes], on_line: Callable[[bytes], None]) -> threading.Thread:
    def read() -> None:
        for line in stream:
            on_line(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _text(line: bytes) -> str:
    # Libraries draw bars of their own with carriage returns: only what stands at the end is kept.
    return line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
