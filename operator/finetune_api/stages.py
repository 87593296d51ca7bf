"""One table of the stages of a job: their names in status, on labels, in names of children and in conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune_api.spec import FineTuneJobSpec


@dataclass(frozen=True)
class Stage:
    """One stage. Its pods run ``finetune_trainer <command>``."""

    name: str  # in status.stages, status.attempts, status.progress and in results
    command: str  # the trainer's argument, and the value of the stage label
    suffix: str  # of the child's name, at most 5 characters: see names.MAX_NAME_LENGTH
    condition: str  # the condition that holds once its result is recorded
    active: str  # status.stage, and the reason of conditions, while its pod runs
    resumes: bool  # whether an attempt goes on from where the one before it stood

    def __str__(self) -> str:
        return self.name


TRAIN = Stage("Train", "train", "train", "Trained", "Training", True)
EVALUATE = Stage("Evaluate", "evaluate", "eval", "Evaluated", "Evaluating", False)

STAGES = (TRAIN, EVALUATE)
BY_NAME = {stage.name: stage for stage in STAGES}
BY_COMMAND = {stage.command: stage for stage in STAGES}


def stages_of(spec: FineTuneJobSpec) -> tuple[Stage, ...]:
    """The stages that a spec asks for, in order: without rows to train on only the evaluation, which it then has."""
    return tuple(stage for stage, asked in ((TRAIN, spec.dataset), (EVALUATE, spec.evaluation)) if asked)
