"""The command ``finetune report``: the page of a finished evaluation, from the files of its run."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_api.run_folder import EVALUATIONS, PAGE, REPORT
from finetune_trainer.finished_runs import newest_evaluation
from finetune_trainer.page.reading import read_inputs
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import write_text

_NAME_ONE = "name an evaluation's report.json, its folder, or a run's folder"


def make_page(place: Path, output: Path | None, in_browser: bool) -> int:
    """Writes the page, and opens it where that is asked for. Returns 0.

    Raises StageError: InvalidSpec for a place without a report, or an output that can't be written, EvaluationFailed
    for a report that can't be read.
    """
    folder = _folder(place)
    inputs = read_inputs(folder)
    from finetune_trainer.page.render import render

    file = output or folder / PAGE
    try:
        write_text(file, render(inputs))
    except OSError as error:
        text = f"can't write {file}: {error.strerror or error}"
        raise StageError(Reason.INVALID_SPEC, text, "name another file with --output") from error
    say(f"report: {file}")
    if in_browser and not webbrowser.open(file.resolve().as_uri()):
        say("no browser could be started: open the file in one")
    return 0


def _folder(place: Path) -> Path:
    """The evaluation's folder that a place stands for."""
    folder = (place if place.is_dir() else place.parent).resolve()  # latest is a link to a run's folder
    if place.is_dir() and (folder / EVALUATIONS).is_dir():
        newest = newest_evaluation(folder)
        folder = newest[0] if newest else folder
    if not place.exists() or not (folder / REPORT).is_file():
        problem = "holds no finished evaluation" if place.exists() else "is not there"
        raise StageError(Reason.INVALID_SPEC, f"{place} {problem}", _NAME_ONE)
    return folder
