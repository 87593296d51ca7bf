"""Which changes of a status are worth a write."""

from __future__ import annotations

from finetune_operator.finetunejob.reconcile import worth_writing
from finetune_operator.finetunejob.steps import Write
from plan_questions import child, decide, ended, job, pod, settled, trained


def test_that_a_job_is_there_is_worth_no_write_until_a_pod_of_it_runs() -> None:
    first = decide(job())
    assert isinstance(first, Write)
    assert worth_writing(job().status, first.status)
    made = settled(job(first.status), child(age=0))
    assert made != first.status
    assert not worth_writing(first.status, made)
    runs = settled(job(first.status), child(), pod())
    assert worth_writing(first.status, runs)
    assert not worth_writing(runs, settled(job(runs), child(), pod()))


def test_the_same_holds_for_the_job_of_a_second_stage_and_for_one_that_is_made_again() -> None:
    recorded = decide(job(), child(type="Complete"), ended(message=trained()))
    assert isinstance(recorded, Write)
    made = settled(job(recorded.status), child("eval", "job-2", age=0))
    assert not worth_writing(recorded.status, made)
    runs = settled(job(recorded.status), child("eval", "job-2"), pod("e1", stage="evaluate", of="job-2"))
    assert worth_writing(recorded.status, runs)
    assert runs.stage_status("Evaluate").job_uid == "job-2"
