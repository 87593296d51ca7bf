"""How the operator's plan starts a job, and when it must not yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from finetune_operator.finetunejob.steps import CreateConfig, CreateJob, Facts, LookUp, Need, Settle, Setup
from finetune_operator.workload.objects import Pod
from finetune_operator.workload.profile import ProfileProblem
from plan_questions import (
    NOW,
    OLD_UID,
    READY,
    SETUP,
    after_training,
    child,
    decide,
    ended,
    job,
    pod,
    settled,
    verdict,
)


def test_a_new_job_asks_for_its_setup_then_creates_the_configuration_then_the_training_job() -> None:
    assert decide(job(), facts=Facts()) == LookUp(Need.SETUP)
    assert decide(job(), facts=Facts(setup=SETUP)) == LookUp(Need.FOLDER)
    assert isinstance(decide(job(), facts=Facts(setup=SETUP, occupied="")), CreateConfig)
    step = decide(job(), facts=READY)
    assert isinstance(step, CreateJob)
    assert step.stage == "Train"


def test_the_first_status_has_conditions_a_start_time_and_the_job_uid() -> None:
    status = settled(job(), child(age=0))
    assert status.stage == "Pending"
    assert (status.start_time, status.observed_generation) == (NOW, 1)
    assert [(one.type, one.status) for one in status.conditions] == [
        ("Succeeded", "Unknown"),
        ("Trained", "Unknown"),
        ("Evaluated", "Unknown"),
        ("Reconciling", "True"),
    ]
    assert [(one.stage, one.number, one.job_uid, one.pod) for one in status.attempts] == [("Train", 1, "job-1", None)]


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    deleted = job()
    deleted = replace(deleted, metadata=deleted.metadata.model_copy(update={"deletion_timestamp": NOW}))
    assert decide(deleted, facts=Facts()) == Settle(deleted.status)


def test_a_spec_that_the_schema_let_through_fails_with_the_field_s_name() -> None:
    status = settled(job(dataset={"source": "pvc://data/rows", "promptTemplate": "{question} {nonsense}"}))
    assert verdict(status) == ("False", "InvalidSpec")
    assert status.failure is not None
    assert status.failure.message.startswith("spec.dataset.promptTemplate: unknown placeholder {nonsense}")


def test_a_missing_profile_is_no_failure_and_is_looked_for_again() -> None:
    step = decide(job(), facts=Facts(setup=Setup(ProfileProblem("there is no profile 'x'"))))
    assert isinstance(step, Settle)
    assert verdict(step.status) == ("Unknown", "ProfileNotFound")
    assert step.revisit == 15


def test_the_gateway_s_certificate_is_waited_for_a_minute_and_no_longer() -> None:
    facts = Facts(setup=replace(SETUP, gateway_url="https://gateway"), occupied="")
    early = decide(job(), facts=facts)
    assert isinstance(early, Settle)
    assert early.revisit == 5
    late = decide(job(early.status), facts=facts, now=NOW + timedelta(seconds=60))
    assert isinstance(late, CreateConfig)
    assert late.order.gateway is None
    there = decide(job(), facts=replace(facts, setup=replace(SETUP, gateway_url="https://gateway", gateway_ca="PEM")))
    assert isinstance(there, CreateConfig)
    assert there.order.gateway is not None


def test_a_foreign_object_of_a_child_s_name_fails_the_job_and_a_namesake_s_child_is_waited_for() -> None:
    status = settled(job(), facts=replace(READY, conflict="Job medqa-train exists already"))
    assert verdict(status) == ("False", "NameConflict")
    step = decide(job(), facts=replace(READY, stale="Job medqa-train"))
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", "Pending"), 5)


def test_nothing_starts_while_a_pod_of_an_earlier_run_may_still_write_to_the_same_place() -> None:
    step = decide(job(), pod("old", of="gone", uid=OLD_UID))
    assert isinstance(step, Settle)
    assert "until pod old of an earlier run has ended" in step.status.conditions[0].message
    assert isinstance(decide(job(), ended("old", 1, of="gone", uid=OLD_UID)), CreateJob)


def test_a_pod_that_only_carries_the_job_s_name_holds_nothing_up() -> None:
    def stranger(labels: set[str], controller: dict[str, str]) -> Pod:
        found = pod("debug", of="gone", uid=OLD_UID)
        kept = {name: value for name, value in found.metadata.labels.items() if name in labels}
        owner = found.metadata.owner_references[0].model_copy(update=controller)
        return found.model_copy(
            update={"metadata": found.metadata.model_copy(update={"labels": kept, "owner_references": [owner]})}
        )

    everything = {"finetune.dev/job", "finetune.dev/stage", "finetune.dev/job-uid"}
    for found in (
        *(stranger(everything - {label}, {}) for label in ("finetune.dev/stage", "finetune.dev/job-uid")),
        stranger(everything, {"api_version": "apps/v1", "kind": "ReplicaSet"}),
        stranger(everything, {"api_version": "example.org/v1"}),
    ):
        assert isinstance(decide(job(), found), CreateJob)
    assert isinstance(decide(job(), stranger(everything, {})), Settle)


def test_a_job_waits_for_another_that_comes_first_at_its_folder_before_its_first_stage_only() -> None:
    taken = replace(READY, occupied="sooner")
    step = decide(job(), facts=taken)
    assert isinstance(step, Settle)
    assert (verdict(step.status), step.revisit) == (("Unknown", "Pending"), 5)
    words = "FineTuneJob sooner writes to the same folder; this job starts when it has ended"
    assert step.status.conditions[0].message == words
    assert isinstance(decide(job(after_training()), facts=taken), CreateJob)


def test_a_spec_that_the_api_server_finds_invalid_in_a_child_fails_the_job() -> None:
    status = settled(job(), facts=replace(READY, invalid="Job medqa-train was refused: no such effect"))
    assert verdict(status) == ("False", "InvalidSpec")
    assert status.conditions[0].message.startswith("Job medqa-train was refused: no such effect; correct the field")


def test_a_refused_job_shows_the_api_server_s_words() -> None:
    status = settled(job(), facts=replace(READY, refusal="Job medqa-train was refused: denied by policy"))
    assert verdict(status) == ("Unknown", "PodRejected")
