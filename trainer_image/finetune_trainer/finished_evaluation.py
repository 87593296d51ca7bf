"""Finds a finished evaluation by its report: what it was asked for, what it came to, and the run that it is of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import first_problem
from finetune_api.reasons import Reason
from finetune_api.results import EvaluationStatus, LineageStatus, StageLineage, StageResult
from finetune_api.run_folder import EVALUATIONS, LOCK, REPORT, RESULT, SPEC
from finetune_api.spec_file import read_spec
from finetune_api.stages import EVALUATE, TRAIN
from finetune_trainer.finished_runs import newest_evaluation
from finetune_trainer.sources.pins import Pins, pins_of, read_pins
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.result import read_result

_NAME_ONE = "name an evaluation's report.json, its folder, or a run's folder"


@dataclass(frozen=True)
class FinishedEvaluation:
    """An evaluation that ended well, as it lies in its run's folder. ``training`` is None where nothing was trained."""

    run: Path
    folder: Path
    training: StageResult | None
    result: StageResult
    report: EvaluationStatus  # report.json's own figures

    @property
    def recorded(self) -> EvaluationStatus:
        """The figures of result.json, which a status shows."""
        assert self.result.evaluation, "only a result with figures is taken for an evaluation's"
        return self.result.evaluation

    @property
    def lineage(self) -> LineageStatus:
        """What it was made from."""
        return self.result.lineage or LineageStatus()

    @property
    def runner(self) -> StageLineage:
        """What it ran on."""
        return self.result.stage_lineage or StageLineage()

    @property
    def pins(self) -> Pins:
        """What its sources were resolved to."""
        uid, digest = self.result.job_uid, self.result.training_sha256
        lock = read_pins(self.folder / LOCK, uid, digest)
        # The lock alone counted the shared questions; without it they are counted again.
        shared = lock.shared_examples if lock else None
        update = {"evaluation_sha256": self.result.evaluation_sha256, "shared_examples": shared}
        return pins_of(self.lineage, uid, digest).model_copy(update=update)

    @property
    def spec_text(self) -> str:
        """Its spec.json; the run's, where the trainer left the evaluation none. Raises StageError (InvalidSpec)."""
        for folder in (self.folder, self.run):
            if (file := folder / SPEC).is_file():
                return file.read_text(encoding="utf-8")
        raise StageError(Reason.INVALID_SPEC, f"there is no {SPEC} in {self.run}: nothing says how to evaluate", "")


def find_evaluation(place: Path) -> FinishedEvaluation:
    """The evaluation at a place: its report.json, its folder, or a run's folder, whose newest it is then.

    Raises StageError: InvalidSpec for a place without one, EvaluationFailed for a report that can't be read.
    """
    if not place.exists():
        raise StageError(Reason.INVALID_SPEC, f"{place} is not there", _NAME_ONE)
    folder = (place if place.is_dir() else place.parent).resolve()  # latest is a link to a run's folder
    if place.is_dir() and (folder / EVALUATIONS).is_dir():
        newest = newest_evaluation(folder)
        folder = newest[0] if newest else folder
    run = folder.parent.parent
    result, training = read_result(folder / RESULT), read_result(run / RESULT)
    if result is None or result.stage != EVALUATE.name or not result.evaluation:
        raise StageError(Reason.INVALID_SPEC, f"{place} holds no finished evaluation", _NAME_ONE)
    if training is None and _is_alone(folder / SPEC):
        return FinishedEvaluation(run, folder, None, result, _read_report(folder / REPORT))
    if training is None or training.stage != TRAIN.name or training.training_sha256 != result.training_sha256:
        text = f"{run} does not hold the training that was evaluated"
        raise StageError(Reason.INVALID_SPEC, text, "an evaluation can be verified where its run left it only")
    return FinishedEvaluation(run, folder, training, result, _read_report(folder / REPORT))


def _is_alone(file: Path) -> bool:
    """Whether a spec.json asks for an evaluation without a training."""
    try:
        return "dataset" not in read_spec(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _read_report(file: Path) -> EvaluationStatus:
    try:
        return EvaluationStatus.model_validate(json.loads(file.read_text(encoding="utf-8"))["evaluation"])
    except OSError as error:
        problem = str(error.strerror or error)
    except ValidationError as error:
        problem = first_problem(error)
    except (ValueError, KeyError, TypeError):
        problem = "it is no evaluation's report"
    raise StageError(Reason.EVALUATION_FAILED, f"can't read {file}: {problem}", "restore the file, or evaluate anew")
