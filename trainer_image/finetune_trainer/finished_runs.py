"""Finds finished runs below folders: what they were asked for, what they came to, and how they were scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_api.run_folder import EVALUATIONS, RESULT, ROW_CACHE, SPEC
from finetune_api.spec_file import read_spec
from finetune_api.stages import EVALUATE, TRAIN
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.result import read_result

_NAME_ONE = "name a run's folder, its result.json, or the folder that holds run folders"


@dataclass(frozen=True)
class FinishedRun:
    """A training that ended well, or an evaluation of what was trained elsewhere."""

    folder: Path
    training: StageResult  # without one that of the evaluation, which says nothing of a training
    evaluation: StageResult | None = None  # the newest
    spec: dict[str, Any] | None = None  # None where the trainer left none


def find_runs(places: Sequence[Path]) -> list[FinishedRun]:
    """The finished runs at each place, each once: a run's folder, its result.json, or a folder of run folders.

    Raises StageError (InvalidSpec) for a place without any, or one that can't be read.
    """
    runs: dict[Path, FinishedRun] = {}
    beside = [place for place in places if place.name == ROW_CACHE]  # a shell's runs/* names prepared rows, too
    for place in [one for one in places if one not in beside] or beside:
        try:
            for run in _runs_at(place):
                runs.setdefault(run.folder, run)
        except OSError as error:
            raise StageError(
                Reason.INVALID_SPEC, f"can't read {place}: {error.strerror or error}", _NAME_ONE
            ) from error
    return list(runs.values())


def newest_evaluation(run: Path, training_sha256: str | None = None) -> tuple[Path, StageResult] | None:
    """The evaluation in a run's folder that ended last, with its own folder; of this training, where one is named."""
    found = {
        file.parent: result
        for file in (run / EVALUATIONS).glob(f"*/{RESULT}")
        if (result := read_result(file)) and result.stage == EVALUATE.name and result.evaluation
    }
    ours = (one for one in found.items() if training_sha256 in (None, one[1].training_sha256))
    return max(ours, key=lambda one: one[1].finished_at, default=None)


def _runs_at(place: Path) -> list[FinishedRun]:
    """The oldest first."""
    if not place.exists():
        raise StageError(Reason.INVALID_SPEC, f"{place} is not there", _NAME_ONE)
    folder = place if place.is_dir() else place.parent
    if place.is_dir() and not (place / RESULT).exists():
        found = [run for entry in sorted(place.iterdir()) if entry.is_dir() and (run := _read(entry))]
        found = found or [run for run in [_evaluated(place)] if run]
    else:
        run = _read(folder) if place.is_dir() or place.name == RESULT else None
        found = [run] if run else []
    if not found:
        raise StageError(Reason.INVALID_SPEC, f"{place} holds no finished training or evaluation", _NAME_ONE)
    return sorted(found, key=lambda run: run.training.finished_at)


def _read(folder: Path) -> FinishedRun | None:
    training = read_result(folder / RESULT)
    if training is None:
        return _evaluated(folder)
    if training.stage != TRAIN.name:
        return None
    newest = newest_evaluation(folder, training.training_sha256)
    # latest is a link to one of them
    return FinishedRun(folder.resolve(), training, newest[1] if newest else None, _spec(folder / SPEC))


def _evaluated(folder: Path) -> FinishedRun | None:
    """The newest evaluation in a folder where nothing was trained; in one whose training is not done there is none."""
    if (newest := newest_evaluation(folder)) is None:
        return None
    place, result = newest
    spec = _spec(place / SPEC)
    return FinishedRun(folder.resolve(), result, result, spec) if spec and "dataset" not in spec else None


def _spec(file: Path) -> dict[str, Any] | None:
    try:
        return read_spec(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
