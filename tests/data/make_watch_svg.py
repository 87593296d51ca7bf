"""Draws what `kubectl finetune watch` shows of one or more states of a job, below each other, as an SVG.

kubectl get ftj medqa-tiny -o json > running.json     # and once more when it is over
python tests/data/make_watch_svg.py running.json finished.json --output docs/images/watch.svg
"""

from __future__ import annotations

import argparse
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from finetune_api.job import FineTuneJob
from finetune_cli import result, running
from finetune_cli.view import advance, is_over

WIDTH = 100
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # fonts of a foreign server


def read_job(path: Path) -> FineTuneJob:
    """Reads a FineTuneJob from JSON or YAML."""
    return FineTuneJob.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def draw(job: FineTuneJob) -> RenderableType:
    """What the command shows of the job, as of its last progress."""
    if is_over(job):
        return result.render(job)
    progress = job.status.progress
    seen = (progress.last_update_time if progress else None) or job.status.start_time or datetime.now().astimezone()
    return running.render(advance(None, job, seen), seen + timedelta(seconds=1))


def main() -> None:
    """Parses the command line and writes the SVG."""
    parser = argparse.ArgumentParser(description="Draw states of a job as an SVG.")
    parser.add_argument("jobs", type=Path, nargs="+", help="FineTuneJobs as JSON or YAML")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    jobs = [read_job(path) for path in arguments.jobs]
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, highlight=False, force_terminal=True)
        for index, job in enumerate(jobs):
            console.print(*([Text(), Rule(style="dim"), Text()] if index else []), draw(job), sep="\n")
        svg = console.export_svg(title=f"kubectl finetune watch {jobs[-1].metadata.name}")
    arguments.output.write_text(FONT_FACE.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
