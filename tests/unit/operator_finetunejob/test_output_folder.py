"""Whose turn it is at one output folder."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.finetunejob.job_object import read_job
from finetune_operator.finetunejob.output_folder import occupant
from plan_questions import SPEC, ago

DONE = {"conditions": [{"type": "Succeeded", "status": "True", "reason": "Completed", "lastTransitionTime": ago(0)}]}
STARTED = {"attempts": [{"stage": "Train", "number": 1, "jobUID": "job-1"}]}


def raw(name: str, age: float, *, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A FineTuneJob; its UID is its name."""
    metadata = {"name": name, "namespace": "ml", "uid": name, "creationTimestamp": ago(age)}
    return {"metadata": metadata, "spec": SPEC | spec, "status": status or {}}


def first(mine: dict[str, Any], *others: dict[str, Any], started: bool = False) -> str:
    """Who comes before ``mine``."""
    return occupant(read_job(mine), started, [(other, False) for other in others])


def test_of_two_jobs_with_one_folder_the_younger_waits_and_the_older_does_not() -> None:
    old, young = raw("old", 60), raw("young", 30)
    assert (first(young, old), first(old, young)) == ("old", "")


def test_of_two_jobs_of_one_second_exactly_one_waits() -> None:
    assert (first(raw("a", 60), raw("b", 60)), first(raw("b", 60), raw("a", 60))) == ("", "a")


def test_a_job_that_has_started_comes_first_whoever_is_older() -> None:
    a, b = raw("a", 60), raw("b", 60)
    assert occupant(read_job(a), False, [(b, True)]) == "b"
    assert first(a, raw("b", 60, status=STARTED)) == "b"
    assert first(b, a, started=True) == ""
    assert first(raw("b", 60, status=STARTED), a) == ""


@pytest.mark.parametrize(
    "other",
    [
        raw("old", 60, status=DONE),
        raw("old", 60, output={"destination": "pvc://models/elsewhere"}),
        raw("old", 60, training={"seed": 7}),
        raw("old", 60, dataset={"source": "nonsense"}),
        raw("old", 60, status={"attempts": "unreadable"}),
    ],
    ids=["it has ended", "another destination", "another digest", "a spec that never starts", "unreadable"],
)
def test_others_are_not_waited_for(other: dict[str, Any]) -> None:
    assert first(raw("young", 30), raw("old", 60)) == "old"
    assert first(raw("young", 30), other) == ""


def test_what_does_not_change_the_folder_does_not_matter() -> None:
    assert first(raw("young", 30), raw("old", 60, scheduling={"backoffLimit": 1})) == "old"
