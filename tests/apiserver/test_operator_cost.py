"""What a job's whole life costs the API server: counted at the connection, checked against the server's own count."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.main import operate
from finetune_operator.runtime.client import connect
from finetune_operator.runtime.requests import Kube
from finetune_operator.settings import Settings
from operator_jobs import EVALUATION, job, message, trained

# For a job that trains and evaluates without a hitch, its progress aside.
MAX_WRITES = 8
MAX_READS = 3


class CountingKube(Kube):
    """A connection that notes each request."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.sent: list[tuple[str, str]] = []

    async def _request(self, method: str, url: str, **content: Any) -> dict[str, Any]:
        self.sent.append((method, url))
        return await super()._request(method, url, **content)

    def counted(self) -> Counter[tuple[str, str]]:
        """The requests by verb and kind."""
        kinds = {"finetunejobs", "jobs", "pods", "configmaps", "events", "persistentvolumeclaims"}
        found: Counter[tuple[str, str]] = Counter()
        for method, url in self.sent:
            parts = url.split("/")
            kind = next(part for part in reversed(parts) if part in kinds)
            found[method, f"{kind}/status" if parts[-1] == "status" else kind] += 1
        return found


def served(world: Any) -> Counter[tuple[str, str]]:
    """The writes that the API server has counted, by verb and kind."""
    request = world._opener.open(f"{world.plane.server}/metrics")
    found: Counter[tuple[str, str]] = Counter()
    for line in request.read().decode().splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[labels["verb"], resource] += int(float(line.rsplit(" ", 1)[1]))
    return found


def live(world: Any, name: str) -> None:
    """A whole life: the pods start after one another and report what a trainer reports."""
    world.apply(job(name, world.namespace))
    pod = world.run_pod(f"{name}-train")
    world.until_status(name, lambda status: status.stage == "Training", "stage Training")
    world.end_pod(pod, 0, trained(world, name))
    pod = world.run_pod(f"{name}-eval")
    world.until_status(name, lambda status: status.stage == "Evaluating", "stage Evaluating")
    world.end_pod(pod, 0, message(world, name, "Evaluate", evaluation=EVALUATION))
    world.until_status(name, lambda status: status.holds("Succeeded"), "success")
    world.until(lambda: world.get("jobs", f"{name}-eval")["status"].get("conditions"), "the Job's end")


async def test_a_whole_life_costs_at_most_eight_writes_and_three_reads(
    world: Any,
    system: str,
    operator_kubeconfig: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    caplog.set_level("INFO", "finetune_operator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(operator_namespace=system, watch_namespaces=(world.namespace,), health_port=port)
    client = await connect()
    kube = CountingKube(client)
    running = asyncio.create_task(operate(kube, settings))
    try:
        await asyncio.to_thread(world.until, lambda: "starts with" in caplog.text, "the operator's start")
        kube.sent.clear()
        before = served(world)
        await asyncio.to_thread(live, world, "medqa")
        first = kube.counted()
        # A second life gives what the first may still have to come the time to come.
        await asyncio.to_thread(live, world, "again")
        both = kube.counted()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
    for lives, requests in ((1, first), (2, both)):
        writes = sum(count for (method, _), count in requests.items() if method != "GET")
        assert writes <= lives * MAX_WRITES, requests
        assert requests.total() - writes <= lives * MAX_READS, requests
    counted = served(world) - before
    assert counted["PUT", "finetunejobs/status"] == both["PUT", "finetunejobs/status"]
    assert counted["POST", "jobs"] == both["POST", "jobs"]
    assert counted["POST", "configmaps"] == 0
