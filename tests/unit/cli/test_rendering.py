"""What `kubectl finetune watch` shows of a status, as golden text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from rich.console import Console, RenderableType

from finetune_api.job import FineTuneJob
from finetune_cli import lines, result, running
from finetune_cli.view import View, is_over

DATA = Path(__file__).parents[2] / "data/cli"
JOBS = sorted(path.stem for path in DATA.glob("*.yaml"))
NOW = datetime(2026, 11, 24, 15, 3, 10, tzinfo=UTC)
RECEIVED = datetime(2026, 11, 24, 15, 3, 0, tzinfo=UTC)
LOSSES = (2.31, 1.74, 1.2, 0.91, 0.74, 0.58)


def read_job(name: str) -> FineTuneJob:
    return FineTuneJob.model_validate(yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8")))


def plain(renderable: RenderableType, width: int = 100) -> str:
    """What the console writes, without colours and trailing blanks."""
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def screen_of(job: FineTuneJob) -> str:
    return plain(result.render(job) if is_over(job) else running.render(View(job, RECEIVED, LOSSES), NOW))


@pytest.mark.parametrize("name", JOBS)
def test_the_screen_of_a_status_is_the_golden_text(name: str) -> None:
    golden = DATA / f"{name}.txt"
    shown = screen_of(read_job(name))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


def test_a_full_job_is_shown_with_its_model_and_neither_rank_nor_adapter() -> None:
    heading = screen_of(read_job("full-training")).splitlines()[0]
    assert "· Full ·" in heading
    assert "rank" not in heading
    shown = screen_of(read_job("full-succeeded"))
    assert re.search(r"^model +pvc://models/medqa/3f2a9c01d4be/model$", shown, re.MULTILINE)
    assert re.search(r"^base model +hf://unsloth/Llama-3\.2-1B-Instruct \(at 9213176726f5\)$", shown, re.MULTILINE)
    assert "adapter" not in shown


def test_the_plain_line_of_each_unfinished_job_is_the_golden_text() -> None:
    golden = DATA / "lines.txt"
    unfinished = [job for job in map(read_job, JOBS) if not is_over(job)]
    shown = "".join(lines.line(View(job, RECEIVED, LOSSES)) + "\n" for job in unfinished)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", JOBS)
def test_a_narrow_terminal_cuts_neither_the_artefacts_nor_the_message(name: str) -> None:
    job = read_job(name)
    console = Console(width=60, color_system=None)
    with console.capture() as capture:
        console.print(result.render(job) if is_over(job) else running.render(View(job, RECEIVED, LOSSES), NOW))
    shown = "".join(capture.get().split())
    artefacts = [one for one in (job.status.adapter, job.status.model) if one and is_over(job)]
    wanted = [text for one in artefacts for text in (one.uri, one.sha256)]
    wanted += [job.status.failure.message] if job.status.failure else []
    assert all("".join(text.split()) in shown for text in wanted)
    assert max(map(len, capture.get().splitlines())) <= 60


def test_the_documentations_picture_is_drawn_from_states_of_a_job_without_foreign_fonts(tmp_path: Path) -> None:
    picture = tmp_path / "watch.svg"
    states = [str(DATA / f"{name}.yaml") for name in ("training", "succeeded")]
    script = DATA.parent / "make_watch_svg.py"
    subprocess.run([sys.executable, str(script), *states, "--output", str(picture)], check=True)
    drawn = picture.read_text(encoding="utf-8")
    assert "120/200" in drawn
    assert "8d1f5c0b7a3e4f6d9c2b1a0e8f7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b" in drawn
    assert "@font-face" not in drawn


def test_fewer_invented_options_are_shown_as_a_gain() -> None:
    console = Console(width=100, color_system="standard", force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(result.render(read_job("answers")))
    (line,) = (line for line in capture.get().splitlines() if line.startswith("invalid answer rate"))
    assert "\x1b[32m-20.0 points" in line
