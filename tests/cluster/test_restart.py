"""A training pod that the cluster takes away in mid-run: the next one goes on from where it stood."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from cluster_setup.install import CLAIM
from cluster_setup.jobs import RUN_SECONDS, Jobs, has_progress, tiny
from cluster_setup.load import ClaimFiles
from finetune_api.job import FineTuneJob
from finetune_api.progress import ProgressStatus

STEPS = 200


@dataclass
class Evicted:
    """A job whose training pod was evicted."""

    before: ProgressStatus  # as status showed it when the pod was evicted
    seen: list[FineTuneJob] = field(default_factory=list)  # from then to the end

    @property
    def end(self) -> FineTuneJob:
        return self.seen[-1]


@pytest.fixture(scope="module")
def evicted(jobs: Jobs) -> Evicted:
    """No crash is allowed, and no checkpoint is due: there is one only if SIGTERM reaches the trainer in time."""
    training = {"checkpoint": {"everySteps": 10 * STEPS}}
    spec = tiny("evicted", STEPS, training=training, scheduling={"backoffLimit": 0})
    del spec["evaluation"]
    jobs.apply("evicted", spec)
    progress = jobs.wait("evicted", has_progress, RUN_SECONDS, "progress").status.progress
    assert progress
    found = Evicted(progress)
    evict(jobs, str(progress.pod))

    def ended(job: FineTuneJob) -> bool:
        found.seen.append(job)
        return job.status.completion_time is not None

    jobs.wait("evicted", ended, RUN_SECONDS, "the end")
    return found


def evict(jobs: Jobs, pod: str) -> None:
    """As a drain does, and with the condition DisruptionTarget that preemption by a scheduler sets, too."""
    metadata = {"name": pod, "namespace": jobs.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{jobs.namespace}/pods/{pod}/eviction"
    jobs.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_an_evicted_training_goes_on_from_the_checkpoint_that_sigterm_wrote_and_counts_no_crash(
    evicted: Evicted, files: ClaimFiles
) -> None:
    status = evicted.end.status
    assert status.holds("Succeeded"), status.failure
    assert [attempt.reason for attempt in status.attempts] == ["Preempted", "Completed"]
    assert (status.stage_status("Train").attempts, status.stage_status("Train").crashes) == (2, 0)
    assert status.training
    assert status.training.steps == STEPS
    assert evicted.before.step <= status.training.resumed_from_step < STEPS
    lines = files.read(str(status.training.metrics_uri).removeprefix(f"pvc://{CLAIM}/")).splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))


def test_what_it_had_reached_is_shown_all_along_and_never_goes_back(evicted: Evicted) -> None:
    shown = [job.status.progress for job in evicted.seen]
    steps = [evicted.before.step, *(progress.step for progress in shown if progress)]
    assert len(steps) == len(shown) + 1
    assert steps == sorted(steps)


def test_people_are_told_that_it_was_evicted_and_where_it_goes_on(evicted: Evicted, jobs: Jobs) -> None:
    said = [condition.message for job in evicted.seen if (condition := job.status.condition("Succeeded"))]
    end = "attempt 1 ended (Preempted); Job evicted-train starts again, from the last checkpoint if there is one"
    assert end in said
    assert f"attempt 1 of stage Train (pod {evicted.before.pod}) ended" in jobs.events()
