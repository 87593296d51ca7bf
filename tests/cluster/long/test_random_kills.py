"""Operator and gateway killed again and again at random moments of three jobs' lives. `make test-long` runs it."""

from __future__ import annotations

import random
import time

import pytest

from cluster_setup.install import SYSTEM_NAMESPACE
from cluster_setup.jobs import RUN_SECONDS, Jobs, tiny
from embedded_cluster.process import wait_until

NAMES = ("chaos-a", "chaos-b", "chaos-c")
LONGEST_PAUSE_SECONDS = 12.0


def all_ended(jobs: Jobs) -> bool:
    return all(jobs.get(name).status.completion_time for name in NAMES)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_kills_of_operator_and_gateway_lose_nothing_and_start_nothing_twice(jobs: Jobs, seed: int) -> None:
    rng = random.Random(seed)
    for name in NAMES:
        jobs.apply(name, tiny(f"{name}-{seed}", training={"batchSize": 4, "maxSteps": 4, "seed": seed}))
    started, kills = time.monotonic(), 0
    while not all_ended(jobs):
        assert time.monotonic() - started < 2 * RUN_SECONDS, jobs.events()
        pause_until = time.monotonic() + rng.uniform(0.0, LONGEST_PAUSE_SECONDS)
        wait_until(lambda until=pause_until: time.monotonic() > until or all_ended(jobs), 60, "the next kill")
        victim = rng.choice(("finetune-operator", "finetune-gateway"))
        selector = f"app.kubernetes.io/name={victim}"
        jobs.kubectl("-n", SYSTEM_NAMESPACE, "delete", "pod", "-l", selector, "--grace-period=0", "--force")
        kills += 1
    print(f"seed {seed}: {kills} kills")
    for name in NAMES:
        job = jobs.get(name)
        assert job.status.holds("Succeeded"), job.status.failure
        assert [attempt.stage for attempt in job.status.attempts] == ["Train", "Evaluate"]
        assert len(jobs.children(name, "jobs")) == 2
        assert len(jobs.children(name, "pods")) == 2
        jobs.delete(name)
