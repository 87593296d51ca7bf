"""When training has gone far enough, by what was measured on the way. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.defaults import ResolvedTraining
from finetune_api.results import Advice, RetentionPoint

_POINTS = 10  # evaluations of a run whose spec doesn't say how many
_SHOWN = 16  # in status


@dataclass(frozen=True)
class Measured:
    """What was measured after so many steps: means over the label tokens of rows that are not trained on."""

    step: int
    validation_loss: float | None = None
    retention_loss: float | None = None

    @property
    def perplexity(self) -> float | None:
        """Of the retention rows."""
        return None if self.retention_loss is None else math.exp(min(self.retention_loss, 700.0))


@dataclass(frozen=True)
class Stopping:
    """Early stopping: ``patience`` evaluations in a row, none lower by more than ``minimum_change``."""

    patience: int
    minimum_change: float

    def best(self, points: Sequence[Measured]) -> Measured | None:
        """The lowest after at least one step; the untrained model is no candidate, nor a loss that is no number."""
        return min(_candidates(points), key=_loss, default=None)

    def is_exhausted(self, points: Sequence[Measured]) -> bool:
        """Whether training ends here."""
        last: Measured | None = None  # that was lower by enough
        for point in _candidates(points):
            if last is None or _loss(point) < _loss(last) - self.minimum_change:
                last = point
        return last is not None and sum(point.step > last.step for point in points) >= self.patience

    def words(self) -> str:
        """Why training ended."""
        by = f" by more than {self.minimum_change:g}" if self.minimum_change else ""
        return f"{self.patience} evaluations in a row without a validation loss that is lower{by}"


def _candidates(points: Sequence[Measured]) -> list[Measured]:
    return [
        point
        for point in points
        if point.step and point.validation_loss is not None and math.isfinite(point.validation_loss)
    ]


def _loss(point: Measured) -> float:
    assert point.validation_loss is not None
    return point.validation_loss


def stopping_of(training: ResolvedTraining) -> Stopping | None:
    """As the spec says."""
    wanted = training.early_stopping
    return Stopping(wanted.patience, float(wanted.minimum_change)) if wanted else None


def measuring_steps(training: ResolvedTraining, total: int) -> int:
    """Steps between two evaluations of a run of so many steps."""
    return training.early_stopping.every_steps if training.early_stopping else max(1, -(-total // _POINTS))


def stopping_advice(training: ResolvedTraining, total: int) -> Advice | None:
    """What to say of an early stopping that can never fire."""
    wanted = training.early_stopping
    if not wanted:
        return None
    evaluations = -(-total // wanted.every_steps)
    if evaluations > wanted.patience:
        return None
    text = (
        f"earlyStopping never fires: {total} steps have {evaluations} evaluations (everySteps {wanted.every_steps}), "
        f"and patience {wanted.patience} takes {wanted.patience + 1} at least. The best of them is saved all the same"
    )
    return Advice(reason="EarlyStoppingNeverFires", message=text)


def measuring_advice(training: ResolvedTraining, total: int, rows: int) -> Advice | None:
    """What to say of so many rows to measure that training is the smaller part of the run."""
    points = 1 + -(-total // measuring_steps(training, total))  # the first before any step
    scored, trained = points * rows, total * training.batch_size
    if scored <= trained:
        return None
    text = (
        f"{rows:,} validation and retention rows are scored {points} times, {scored:,} in all, and {trained:,} "
        "examples trained on: set maxExamples of dataset.validation and evaluation.retention to some hundreds"
    )
    return Advice(reason="MeasuringCostly", message=text)


def retention_points(points: Sequence[Measured], best_step: int | None = None) -> list[RetentionPoint]:
    """What status shows: the first, the last, that of the weights that were saved, and some between."""
    known = [point for point in points if point.perplexity is not None]
    if len(known) > _SHOWN:
        best = next((place for place, point in enumerate(known) if point.step == best_step), 0)
        places = [round(place * (len(known) - 1) / (_SHOWN - 1)) for place in range(_SHOWN)]
        if best not in places:  # in place of the nearest, which is neither end
            nearest = min(range(1, _SHOWN - 1), key=lambda place: abs(places[place] - best))
            places[nearest] = best
        known = [known[place] for place in places]
    return [RetentionPoint(step=point.step, perplexity=f"{point.perplexity:.6g}") for point in known]
