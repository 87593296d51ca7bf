"""From single judgements to rows: positions swapped, repeats, and what does not count."""

from __future__ import annotations

import pytest

from finetune_api.judge import JudgeSpec
from finetune_trainer.evaluation.judge.prompts import AnsweredRow
from finetune_trainer.evaluation.judge.replies import PairReply, score_reply
from finetune_trainer.evaluation.judge.tasks import Judgement, State, Task, make_tasks
from finetune_trainer.evaluation.judge.verdicts import find_verdicts

ROWS = [AnsweredRow(str(number) * 64, "q", "r", tuned="t", base="b") for number in range(2)]
POINTS = score_reply(["Accuracy"])


def pair(winner: str, swapped: bool = False, row: int = 0, repeat: int = 0) -> Judgement:
    reply = PairReply.model_validate({"reason": "", "winner": winner})
    return Judgement(Task(row, repeat, swapped=swapped), State.JUDGED, reply)


def points(side: str, value: int, row: int = 0, repeat: int = 0) -> Judgement:
    return Judgement(Task(row, repeat, side), State.JUDGED, POINTS.model_validate({"reason": "", "Accuracy": value}))


@pytest.mark.parametrize(
    ("plain", "swapped", "verdict", "swayed"),
    [
        ("First", "Second", "base", 0),  # base stands first, then second
        ("Second", "First", "tuned", 0),
        ("First", "First", "tie", 1),
        ("Second", "Second", "tie", 1),
        ("Tie", "Tie", "tie", 0),
        ("Tie", "First", "tie", 0),
        ("Second", "Tie", "tie", 0),
    ],
)
def test_a_preference_counts_only_if_it_survives_the_other_order(
    plain: str, swapped: str, verdict: str, swayed: int
) -> None:
    found = find_verdicts(ROWS, [pair(plain), pair(swapped, swapped=True)], True)
    assert found.preferred == {0: verdict}
    assert found.swayed == swayed


def test_half_a_comparison_is_none() -> None:
    assert (
        find_verdicts(ROWS, [pair("Second"), Judgement(Task(0, 0, swapped=True), State.UNUSABLE)], True).preferred == {}
    )


@pytest.mark.parametrize(
    ("verdicts", "preferred"),
    [
        (["tuned"], "tuned"),
        (["tuned", "tuned", "base"], "tuned"),
        (["tuned", "base"], "tie"),
        (["tuned", "tie"], "tie"),
        (["base", "tie", "base", "tuned", "base"], "base"),
        (["tuned", "tie", "base"], "tie"),
    ],
)
def test_of_repeats_more_than_half_must_say_so(verdicts: list[str], preferred: str) -> None:
    orders = {"base": ("First", "Second"), "tuned": ("Second", "First"), "tie": ("Tie", "Tie")}
    judgements = [
        pair(orders[verdict][swapped], swapped=bool(swapped), repeat=repeat)
        for repeat, verdict in enumerate(verdicts)
        for swapped in (0, 1)
    ]
    assert find_verdicts(ROWS, judgements, True).preferred == {0: preferred}


def test_points_are_means_of_the_repeats_that_count() -> None:
    judgements = [
        points("tuned", 4),
        points("tuned", 5, repeat=1),
        points("tuned", 2, row=1),
        Judgement(Task(1, 1, "tuned"), State.UNANSWERED),
        points("base", 1),
    ]
    found = find_verdicts(ROWS, judgements, False)
    assert found.means("Accuracy", "tuned") == {0: 4.5, 1: 2.0}
    assert found.means("Accuracy", "base") == {0: 1.0}


def test_same_answers_are_a_tie_that_nobody_is_asked_about() -> None:
    rows = [AnsweredRow("0" * 64, "q", "r", tuned="same", base="same"), ROWS[1]]
    spec = JudgeSpec(endpoint="https://a.example/v1", model="m", pairwise=True)
    compared = [task for task in make_tasks(rows, spec) if task.side is None]
    assert compared == [Task(1, 0), Task(1, 0, swapped=True)]
    assert find_verdicts(rows, [], True).preferred == {0: "tie"}
    assert find_verdicts(rows, [], False).preferred == {}


def test_judgements_are_asked_row_by_row() -> None:
    spec = JudgeSpec(endpoint="https://a.example/v1", model="m", pairwise=True, repeats=2)
    tasks = make_tasks(ROWS, spec)
    assert [task.row for task in tasks] == [0] * 8 + [1] * 8
    assert len(set(tasks)) == 16
    alone = make_tasks([AnsweredRow("0" * 64, "q", "r", tuned="t")], spec)
    assert {task.side for task in alone} == {"tuned"}
