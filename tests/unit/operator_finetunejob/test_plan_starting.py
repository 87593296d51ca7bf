"""How the operator's plan starts a job, and what holds a start up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.finetunejob.admission import CHECKS, Start, held_up
from finetune_operator.finetunejob.steps import CreateJob, Facts, LookUp, Need, Said, Settle, Setup, Write
from finetune_operator.workload.profile import LoadedProfile, Profile, ProfileProblem
from plan_questions import (
    NOW,
    READY,
    SETUP,
    after_training,
    child,
    decide,
    job,
    settled,
    verdict,
    words,
)


def told() -> Any:
    """A job whose first status is written."""
    step = decide(job())
    assert isinstance(step, Write)
    return job(step.status)


def test_a_new_job_asks_for_its_setup_and_its_turn_then_is_told_of_then_created() -> None:
    assert decide(job(), facts=Facts()) == LookUp(Need.SETUP)
    assert decide(job(), facts=Facts(setup=SETUP)) == LookUp(Need.FOLDER)
    first = decide(job(), facts=READY)
    assert isinstance(first, Write)
    assert verdict(first.status) == ("Unknown", "Pending")
    step = decide(job(first.status), facts=READY)
    assert isinstance(step, CreateJob)
    assert (step.stage.name, step.crashes) == ("Train", 0)


def test_the_first_status_has_conditions_and_a_start_time_and_each_message_once() -> None:
    status = told().status
    assert status.stage == "Pending"
    assert (status.start_time, status.observed_generation) == (NOW, 1)
    assert [(one.type, one.status) for one in status.conditions] == [
        ("Succeeded", "Unknown"),
        ("Finished", "False"),
        ("Trained", "Unknown"),
        ("Evaluated", "Unknown"),
        ("Reconciling", "True"),
    ]
    assert words(status) == "waiting for a pod of Job medqa-train to run"
    messages = [one.message for one in status.conditions]
    assert len(set(messages)) == len(messages)
    assert '""' not in status.model_dump_json(by_alias=True, exclude_none=True)


def test_once_its_job_is_there_status_says_the_same_but_for_the_job_s_uid() -> None:
    first = told()
    status = settled(first, child(age=0))
    assert status.stages[0].job_uid == "job-1"
    assert status.model_copy(update={"stages": []}) == first.status


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    deleted = job()
    deleted = replace(deleted, metadata=deleted.metadata.model_copy(update={"deletion_timestamp": NOW}))
    assert decide(deleted, facts=Facts()) == Settle(deleted.status)


WAITS: list[tuple[str, Facts, str, float | None, str]] = [
    ("a namesake's child", replace(READY, stale="Job medqa-train"), "Pending", 5, "until Job medqa-train of a deleted"),
    (
        "no profile",
        replace(READY, setup=Setup(ProfileProblem("there is no profile 'x'"))),
        "ProfileNotFound",
        5,
        "there is no profile 'x'",
    ),
    (
        "a profile for others",
        replace(READY, setup=Setup(LoadedProfile("gpu", Profile(image="i", allowed_namespaces=["prod"]), "f" * 64))),
        "ProfileForbidden",
        5,
        "profile 'gpu' is not for jobs of namespace 'ml'; name another profile",
    ),
    (
        "a refusal",
        replace(READY, trouble=Said("PodRejected", "Job medqa-train was refused: denied by policy")),
        "PodRejected",
        None,
        "Job medqa-train was refused: denied by policy",
    ),
    (
        "a webhook that fails",
        replace(READY, trouble=Said("ApiError", "failed calling webhook")),
        "ApiError",
        None,
        "failed calling webhook",
    ),
    ("a taken folder", replace(READY, occupied="FineTuneJob sooner writes there"), "Pending", 30, "FineTuneJob sooner"),
    (
        "no certificate yet",
        replace(READY, setup=replace(SETUP, gateway_url="https://gateway")),
        "Pending",
        5,
        "waiting for the status gateway's certificate",
    ),
]


@pytest.mark.parametrize(
    ("facts", "reason", "revisit", "said"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS]
)
def test_what_holds_a_start_up_is_told_and_fails_nothing(
    facts: Facts, reason: str, revisit: float | None, said: str
) -> None:
    step = decide(job(), facts=facts)
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", reason), revisit)
    assert said in words(step.status)
    assert step.status.condition("Stalled") is None


def test_of_several_checks_the_first_tells_the_reason_and_the_earliest_revisit_wins() -> None:
    facts = replace(READY, setup=replace(SETUP, gateway_url="https://gateway"), occupied="FineTuneJob sooner writes")
    late = NOW + timedelta(seconds=58)
    status = job().status.model_copy(update={"start_time": NOW})
    assert facts.setup is not None
    wait = held_up(Start(job(), status, facts, facts.setup, late))
    assert wait is not None
    assert (wait.message, wait.revisit) == ("FineTuneJob sooner writes", 2)


def test_every_check_lets_a_job_pass_that_nothing_holds_up() -> None:
    start = Start(job(), job().status, READY, SETUP, NOW)
    assert [check(start) for check in CHECKS] == [None] * len(CHECKS)


def test_the_gateway_s_certificate_is_waited_for_a_minute_and_no_longer() -> None:
    facts = replace(READY, setup=replace(SETUP, gateway_url="https://gateway"))
    early = settled(job(), facts=facts)
    late = decide(job(early), facts=facts, now=NOW + timedelta(seconds=60))
    assert isinstance(late, CreateJob)
    assert late.order.gateway is None
    there = replace(facts, setup=replace(SETUP, gateway_url="https://gateway", gateway_ca="PEM"))
    step = decide(told(), facts=there)
    assert isinstance(step, CreateJob)
    assert step.order.gateway is not None


def test_a_foreign_object_of_a_child_s_name_fails_the_job() -> None:
    status = settled(job(), facts=replace(READY, conflict="Job medqa-train exists already"))
    assert verdict(status) == ("False", "NameConflict")


def test_a_job_held_up_before_its_evaluation_keeps_what_it_has_and_says_why() -> None:
    facts = replace(READY, occupied="pod left may still write")
    status = settled(job(after_training()), facts=facts)
    assert (status.holds("Trained"), verdict(status), words(status)) == (True, ("Unknown", "Pending"), facts.occupied)


def test_a_refused_job_is_asked_for_again_without_a_status_write_in_between() -> None:
    refused = settled(job(), facts=replace(READY, trouble=Said("PodRejected", "no")))
    assert isinstance(decide(job(refused)), CreateJob)


def test_a_spec_that_the_api_server_finds_invalid_in_a_child_fails_the_job() -> None:
    status = settled(job(), facts=replace(READY, invalid="Job medqa-train was refused: no such effect"))
    assert verdict(status) == ("False", "InvalidSpec")
    assert words(status).startswith("Job medqa-train was refused: no such effect; correct the field")
