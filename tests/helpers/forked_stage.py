"""The training stage in processes of its own that start in no time: a fork server holds the libraries for them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.stages import TRAIN


@dataclass(frozen=True)
class Attempt:
    """One process of the stage, and the files that it writes for us."""

    process: BaseProcess
    log: Path
    pushes: Path

    def wait(self, seconds: float) -> None:
        """Waits for its end; kills it when that does not come in time."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def first_step(self) -> int | None:
        """The step that it began its own steps at; None before."""
        found = re.search(r"^training starts at step (\d+) of", self.output, re.MULTILINE)
        return int(found[1]) if found else None

    @property
    def told_steps(self) -> list[int]:
        """The steps that the status gateway would have been told of, in order."""
        lines = self.pushes.read_text().splitlines() if self.pushes.exists() else []
        metrics = (json.loads(line)["trainerStatus"]["metrics"] for line in lines)
        return [int(one["value"]) for found in metrics for one in found if one["name"] == "current_step"]


def start(config: RunConfig, folder: Path, number: int) -> Attempt:
    """Starts an attempt. The first one of a test session waits for the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded_engine"])
    _ensure_server()
    log, pushes = folder / f"log-{number}", folder / f"pushes-{number}"
    process = context.Process(target=_stage, args=(config, log, pushes, folder / f"message-{number}"))
    process.start()
    return Attempt(process, log, pushes)


def _ensure_server() -> None:
    """The server looks for modules where any new Python does, so it is told of our path."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _stage(config: RunConfig, log: Path, pushes: Path, message: Path) -> None:
    from finetune_trainer.stage_runner import run_stage

    with log.open("ab") as file:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), descriptor)
    with pushes.open("ab") as file:
        sys.exit(run_stage(TRAIN, config, message, file.fileno()))
