"""An older operator meets what a newer one wrote, and does no harm: rolling forward finds everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.steps import CreateJob, Settle, Write
from plan_questions import (
    LISTED,
    after_training,
    child,
    decide,
    ended,
    job,
    message,
    pod,
    settled,
    trained,
    verdict,
    words,
)

NEWER: list[dict[str, Any]] = [
    {"method": "DPO"},
    {"dataset": {"source": "pvc://data/rows", "format": "Preference"}},
    {"dataset": {"source": "pvc://data/rows", "promptTemplate": "{question} {nonsense}"}},
    {"training": {"packing": "Auto", "learningRate": {"peak": "1e-4"}}},
]


@pytest.mark.parametrize("change", NEWER, ids=["method", "format", "template", "field"])
def test_a_spec_that_can_t_be_read_waits_though_nothing_ran_and_heals_with_the_version(change: dict[str, Any]) -> None:
    status = settled(job(**change))
    assert verdict(status) == ("Unknown", "UnsupportedSpec")
    assert f"spec.{next(iter(change))}" in words(status)
    assert status.condition("Stalled") is None
    assert isinstance(decide(job(status)), CreateJob)


@pytest.mark.parametrize("before", [settled(job(), child(), pod()), after_training()], ids=["training", "trained"])
def test_a_job_that_runs_is_left_as_it_is_while_its_spec_can_t_be_read(before: FineTuneJobStatus) -> None:
    step = decide(job(before, method="DPO"), child(), pod())
    assert isinstance(step, Settle)
    assert verdict(step.status) == ("Unknown", "UnsupportedSpec")
    assert step.status.condition("Trained") == before.condition("Trained")
    kept = {"conditions": [], "observed_generation": 1}
    assert step.status.model_copy(update=kept) == before.model_copy(update=kept)
    # Rolled forward, it goes on where it was, with a result that came meanwhile.
    after = decide(job(step.status), child(type="Complete"), ended(message=trained()))
    assert isinstance(after, CreateJob) if before.holds("Trained") else isinstance(after, Write)
    assert not isinstance(after, Write) or after.status.holds("Trained")


def test_an_ended_job_whose_spec_can_t_be_read_stays_as_it_ended() -> None:
    done = settled(job(evaluation=None), child(), ended(message=trained(), name="p1"))
    failed = settled(job(), child(type="Failed", reason="PodFailurePolicy"), ended("p1", 67), facts=LISTED)
    assert failed.failure
    for status in (done, failed):
        step = decide(job(status, method="DPO"))
        assert isinstance(step, Settle)
        assert step.status == status


def test_a_field_that_this_version_does_not_know_stops_no_job_that_runs_and_starts_none() -> None:
    unknown = {"training": {"packing": "Auto"}}
    waiting = settled(job(**unknown))
    assert verdict(waiting) == ("Unknown", "UnsupportedSpec")
    assert words(waiting).startswith(
        "this version of the operator does not know spec.training.packing; run an operator"
    )
    assert verdict(settled(job(waiting, **unknown), child(), pod())) == ("Unknown", "Training")


def test_results_under_a_field_that_this_version_does_not_know_are_kept_but_are_no_verdict() -> None:
    gated = {"evaluation": None, "guards": {"minAccuracy": "0.9"}}
    running = settled(job(evaluation=None), child(), pod())
    done = settled(job(running, **gated), child(type="Complete"), ended(message=trained()))
    assert (done.holds("Trained"), done.holds("Finished"), verdict(done)) == (
        True,
        False,
        ("Unknown", "UnsupportedSpec"),
    )
    assert words(done).startswith("this version of the operator does not know spec.guards; run an operator")
    assert settled(job(done, **gated), child(type="Complete"), ended(message=trained())) == done
    assert verdict(settled(job(done, evaluation=None), child(type="Complete"))) == ("True", "Completed")


def test_words_and_fields_of_a_newer_operator_survive_a_pass() -> None:
    newer = {
        "observedGeneration": 1,
        "startTime": "2026-11-24T11:00:00Z",
        "stage": "Merging",
        "queue": {"name": "gold"},
        "conditions": [
            {
                "type": "ServedBefore",
                "status": "Unknown",
                "reason": "Judging",
                "lastTransitionTime": "2026-11-24T11:00:00Z",
                "detail": "kept",
            },
            {
                "type": "Succeeded",
                "status": "Unknown",
                "reason": "Merging",
                "message": "merges",
                "lastTransitionTime": "2026-11-24T11:00:00Z",
                "detail": "kept, too",
            },
        ],
        "stages": [{"name": "Merge", "attempts": 2, "budget": 5}, {"name": "Train", "queueSeconds": 9}],
        "attempts": [
            {
                "stage": "Merge",
                "number": 2,
                "jobUID": "job-0",
                "podUID": "uid-0",
                "reason": "Throttled",
                "endTime": "2026-11-24T11:30:00Z",
                "resumedFromStep": 120,
            }
        ],
        "progress": {"stage": "Merge", "step": 3, "phase": "reading"},
    }
    after = settled(job(newer), child(), pod()).to_api()
    assert after["queue"] == {"name": "gold"}
    assert after["conditions"][-1]["type"] == "ServedBefore"
    assert [one.get("detail") for one in after["conditions"] if "detail" in one] == ["kept, too", "kept"]
    assert (after["stages"][0]["attempts"], after["stages"][0]["budget"]) == (2, 5)
    assert (after["stages"][1]["queueSeconds"], after["stages"][1]["attempts"]) == (9, 1)
    assert after["attempts"][0] == newer["attempts"][0]  # type: ignore[index]
    assert after["progress"]["phase"] == "reading"


def test_a_reason_of_a_newer_trainer_is_a_crash_or_what_its_exit_code_says() -> None:
    def told(code: int) -> FineTuneJobStatus:
        failure = {"reason": "RowsTooOld", "message": "the rows are of last year"}
        return settled(job(), child(), ended("p1", code, message("Train", failure=failure)))

    assert [one.reason for one in told(1).attempts] == ["RowsTooOld"]
    assert told(1).stages[0].crashes == 1
    assert told(67).stages[0].crashes == 0
    stopped = child(type="Failed", reason="PodFailurePolicy")
    text = message("Train", failure={"reason": "RowsTooOld", "message": "the rows are of last year"})
    failed = settled(job(), stopped, ended("p1", 67, text), facts=LISTED)
    assert (verdict(failed), words(failed)) == (("False", "RowsTooOld"), "the rows are of last year")
