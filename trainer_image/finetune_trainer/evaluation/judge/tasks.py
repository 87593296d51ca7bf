"""Which judgements are asked for, and what one of them came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from finetune_api.judge import JudgeSpec
from finetune_trainer.evaluation.judge.prompts import AnsweredRow, Messages, pair_messages, score_messages
from finetune_trainer.evaluation.judge.replies import JudgeReply, PairReply, score_reply

BASE, TUNED = "base", "tuned"


@dataclass(frozen=True)
class Task:
    """One judgement: points of one side's answer, or, without a side, a comparison of both."""

    row: int
    repeat: int
    side: str | None = None
    swapped: bool = False  # of a comparison: the tuned model's answer stands first

    def messages(self, rows: Sequence[AnsweredRow], spec: JudgeSpec) -> Messages:
        """What the judge is asked."""
        row = rows[self.row]
        if self.side:
            return score_messages(row, _answer(row, self.side), spec.rubric)
        first, second = (TUNED, BASE) if self.swapped else (BASE, TUNED)
        return pair_messages(row, _answer(row, first), _answer(row, second))

    def form(self, spec: JudgeSpec) -> type[JudgeReply]:
        """What the reply must look like."""
        return score_reply(spec.rubric) if self.side else PairReply


class State(StrEnum):
    """What became of a judgement."""

    JUDGED = "Judged"
    UNUSABLE = "Unusable"  # the reply was no judgement, and neither was the next one
    UNANSWERED = "Unanswered"  # no reply, for all retries
    UNJUDGED = "Unjudged"  # not asked for: budget, or a judge that has gone


@dataclass(frozen=True)
class Judgement:
    """A task and what became of it."""

    task: Task
    state: State
    reply: JudgeReply | None = None
    problem: str = ""


def make_tasks(rows: Sequence[AnsweredRow], spec: JudgeSpec) -> list[Task]:
    """All judgements of the rows, row by row, so that a budget that ends leaves whole rows behind it.

    Answers that are the same to the letter are not compared.
    """
    return [task for index, row in enumerate(rows) for task in _of_row(index, row, spec)]


def _of_row(index: int, row: AnsweredRow, spec: JudgeSpec) -> Iterator[Task]:
    for repeat in range(spec.repeats):
        for side in (BASE, TUNED) if row.base is not None else (TUNED,):
            yield Task(index, repeat, side)
        if spec.pairwise and row.base is not None and not same_answers(row):
            yield Task(index, repeat)
            yield Task(index, repeat, swapped=True)


def same_answers(row: AnsweredRow) -> bool:
    """Whether base and tuned say the same: a tie that no judge is needed for."""
    return row.base == row.tuned


def _answer(row: AnsweredRow, side: str) -> str:
    return row.tuned if side == TUNED else row.base or ""
