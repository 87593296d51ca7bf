"""From single judgements to what each row came to: mean points, and preferences that survive another order. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from finetune_trainer.evaluation.judge.prompts import AnsweredRow
from finetune_trainer.evaluation.judge.replies import PairReply, ScoreReply
from finetune_trainer.evaluation.judge.tasks import BASE, TUNED, Judgement, same_answers

TIE = "tie"
# Points of one answer, one entry for each repeat that counts.
Points = dict[tuple[int, str], list[int]]  # by row and side


@dataclass(frozen=True)
class Verdicts:
    """What the judgements say, by row."""

    points: Mapping[str, Points]  # by criterion
    preferences: Mapping[int, list[str]] = field(default_factory=dict)  # of each repeat: base, tuned or tie
    swayed: int = 0  # comparisons in which one place won in either order

    def means(self, criterion: str, side: str) -> dict[int, float]:
        """Mean points of a side's answers, by row."""
        found = self.points.get(criterion, {})
        return {row: fmean(values) for (row, of), values in found.items() if of == side}

    @property
    def preferred(self) -> dict[int, str]:
        """By row what more than half of the repeats say; a tie where no side has so many."""
        return {row: _majority(found) for row, found in self.preferences.items()}


def find_verdicts(rows: Sequence[AnsweredRow], judgements: Iterable[Judgement], compared: bool) -> Verdicts:
    """What judgements of rows come to; ``compared``: whether pairs were asked for, so that same answers are ties."""
    points: dict[str, Points] = defaultdict(lambda: defaultdict(list))
    winners: dict[tuple[int, int], dict[bool, str]] = defaultdict(dict)  # by row and repeat, then by order
    for one in judgements:
        task = one.task
        if isinstance(one.reply, ScoreReply) and task.side:
            for name, value in one.reply.points.items():
                points[name][task.row, task.side].append(value)
        elif isinstance(one.reply, PairReply):
            winners[task.row, task.repeat][task.swapped] = one.reply.winner
    preferences: dict[int, list[str]] = defaultdict(list)
    swayed = 0
    for (row, _), told in sorted(winners.items()):
        if len(told) == 2:
            preferences[row].append(_survivor(told[False], told[True]))
            swayed += told[False] == told[True] != "Tie"
    for index, row_ in enumerate(rows if compared else ()):
        if row_.base is not None and same_answers(row_):
            preferences[index].append(TIE)
    return Verdicts(points, dict(sorted(preferences.items())), swayed)


def _survivor(plain: str, swapped: str) -> str:
    """Who wins in either order; ``plain`` and ``swapped`` are First, Second or Tie."""
    one = {"First": BASE, "Second": TUNED}.get(plain, TIE)
    other = {"First": TUNED, "Second": BASE}.get(swapped, TIE)
    return one if one == other else TIE


def _majority(found: Sequence[str]) -> str:
    winner, times = Counter(found).most_common(1)[0]
    return winner if 2 * times > len(found) else TIE
