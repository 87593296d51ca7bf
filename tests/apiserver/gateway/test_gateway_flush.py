"""The flusher and the certificate store against a real API server, with others writing at the same moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient

from embedded_cluster.control_plane import ControlPlane
from finetune_api import names
from finetune_api.progress import ProgressStatus
from finetune_operator.gateway.certificates import Bundle
from finetune_operator.gateway.decision import CurrentJob, Report
from finetune_operator.gateway.flusher import Flusher
from finetune_operator.gateway.identity import JobKey, Reporter
from finetune_operator.gateway.jobs import JobStatuses
from finetune_operator.gateway.limits import Rate, TokenBucket
from finetune_operator.gateway.secret import CertificateStore, MissingObjectError
from finetune_operator.gateway.store import ProgressStore, Schedule, Verdict
from finetune_operator.runtime.client import API_ERRORS, ApiError, connect

NOW = datetime.now(UTC)
HOSTS = ["finetune-gateway.finetune-system.svc"]
SPEC = {
    "model": {"source": "hf://owner/model"},
    "dataset": {"source": "pvc://data/rows.jsonl"},
    "output": {"destination": "pvc://models/medqa"},
}


@pytest.fixture
async def api(apiserver: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiClient]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    async with await connect() as client:
        yield client


@dataclass
class Job:
    """A FineTuneJob whose operator has recorded one pod."""

    apiserver: ControlPlane
    namespace: str
    uid: str = ""
    status: dict[str, Any] = field(default_factory=dict)

    def create(self) -> Job:
        document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "medqa"}, "spec": SPEC}
        self.uid = json.loads(self._kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(document)))["metadata"][
            "uid"
        ]
        unknown = {
            "type": "Succeeded",
            "status": "Unknown",
            "reason": "Test",
            "lastTransitionTime": "2026-01-01T08:00:00Z",
        }
        attempt = {"stage": "Train", "number": 1, "jobUID": "batch-1", "pod": "medqa-train-a"}
        self.write({"stage": "Training", "conditions": [unknown], "attempts": [attempt]})
        return self

    def write(self, status: dict[str, Any]) -> None:
        """Writes status as the operator would."""
        self._kubectl(
            "patch", "ftj", "medqa", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )

    def delete(self) -> None:
        self._kubectl("delete", "ftj", "medqa")

    @property
    def shown(self) -> dict[str, Any]:
        """``status.progress``."""
        found = json.loads(self._kubectl("get", "ftj", "medqa", "-o", "json"))
        return dict(found["status"].get("progress", {}))

    def report(self, step: int, **progress: Any) -> Report:
        reporter = Reporter(
            JobKey(self.namespace, "medqa", self.uid), "Train", "medqa-train-a", "pod-a", NOW, "batch-1"
        )
        return Report(reporter, ProgressStatus(pod=reporter.pod, step=step, **progress))

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.apiserver.kubectl("-n", self.namespace, *arguments, stdin=stdin)


@pytest.fixture
def job(apiserver: ControlPlane, namespace: str) -> Job:
    return Job(apiserver, namespace).create()


@dataclass
class Replica:
    """One gateway's store and flusher."""

    store: ProgressStore
    flusher: Flusher

    @classmethod
    def of(cls, jobs: JobStatuses) -> Replica:
        store = ProgressStore(Schedule(shortest_interval=0.001, per_second=1000), capacity=10)
        return cls(store, Flusher(store, jobs, TokenBucket(Rate(1000, 1000), 0.0)))

    async def report(self, report: Report) -> Verdict:
        """Takes a report and tries to write it."""
        verdict = self.store.offer(report, 0.0)
        await self.flusher.drain()
        return verdict


class Interrupted(JobStatuses):
    """Job statuses that others change between our read and our patch."""

    def __init__(self, api: ApiClient, *interruptions: Callable[[], object]) -> None:
        super().__init__(api)
        self.reads = 0
        self._interruptions = [*interruptions]

    async def read(self, job: JobKey) -> CurrentJob | None:
        found = await super().read(job)
        self.reads += 1
        if self._interruptions:
            interrupt = self._interruptions.pop(0)
            done = interrupt()
            if isinstance(done, Awaitable):
                await done
        return found


async def test_another_replica_that_knows_nothing_writes_no_lower_step(api: ApiClient, job: Job) -> None:
    first, second = Replica.of(JobStatuses(api)), Replica.of(JobStatuses(api))
    await first.report(job.report(20))
    assert await second.report(job.report(19)) is Verdict.TAKEN
    assert job.shown["step"] == 20
    await second.report(job.report(21))
    assert job.shown["step"] == 21


@pytest.mark.parametrize("before", [None, 5])
async def test_replicas_that_write_at_once_leave_the_higher_step(api: ApiClient, job: Job, before: int | None) -> None:
    if before is not None:
        await Replica.of(JobStatuses(api)).report(job.report(before))
    other = Replica.of(JobStatuses(api))
    jobs = Interrupted(api, lambda: other.report(job.report(20)))
    await Replica.of(jobs).report(job.report(19))
    assert job.shown["step"] == 20
    assert jobs.reads == 2  # the test failed once, and the second look said that 19 is out of date


async def test_what_the_operator_ends_during_a_write_stays(api: ApiClient, job: Job) -> None:
    await Replica.of(JobStatuses(api)).report(job.report(59, loss="0.5"))
    done = {"type": "Succeeded", "status": "True", "reason": "Test", "lastTransitionTime": "2026-01-01T08:00:00Z"}
    final = {"stage": "Succeeded", "conditions": [done], "progress": {"step": 59, "loss": "0.4"}}
    replica = Replica.of(Interrupted(api, lambda: job.write(final)))
    await replica.report(job.report(60, loss="0.6"))
    assert (job.shown["step"], job.shown["loss"]) == (59, "0.4")
    assert await replica.report(job.report(60)) is Verdict.FINISHED


async def test_a_namesake_made_during_a_write_is_left_alone(api: ApiClient, job: Job) -> None:
    namesake = Job(job.apiserver, job.namespace)

    def replace() -> None:
        job.delete()
        namesake.create()

    replica = Replica.of(Interrupted(api, replace))
    await replica.report(job.report(20))
    assert namesake.shown == {}
    assert await replica.report(job.report(21)) is Verdict.FINISHED


async def test_a_job_deleted_during_a_write_is_let_go(api: ApiClient, job: Job) -> None:
    replica = Replica.of(Interrupted(api, job.delete))
    await replica.report(job.report(20))
    assert await replica.report(job.report(21)) is Verdict.FINISHED


async def test_a_value_that_the_schema_refuses_is_given_up(api: ApiClient, job: Job) -> None:
    jobs = Interrupted(api)
    good = job.report(1)
    bad = Report(good.reporter, good.progress.model_copy(update={"percent": 101}))
    await Replica.of(jobs).report(bad)
    assert job.shown == {}
    assert jobs.reads == 3


async def test_a_flood_of_reports_is_one_write(api: ApiClient, job: Job) -> None:
    jobs = Interrupted(api)
    replica = Replica.of(jobs)
    for step in range(1000):
        replica.store.offer(job.report(step), 0.0)
    await replica.flusher.drain()
    assert job.shown["step"] == 999
    assert jobs.reads == 1


async def test_a_report_outlives_an_outage_of_the_api_server(api: ApiClient, job: Job) -> None:
    def outage() -> None:
        raise ApiError(503, "ServiceUnavailable", "the API server is going down")

    jobs = Interrupted(api, outage, outage)
    replica = Replica.of(jobs)
    await replica.report(job.report(7))
    while not job.shown:  # each turn tries again
        await replica.flusher.drain()
        await asyncio.sleep(0)
        assert jobs.reads < 10
    assert job.shown["step"] == 7


@pytest.fixture
def shipped(apiserver: ControlPlane, namespace: str) -> str:
    """A namespace with the empty Secret and ConfigMap of the manifests."""
    apiserver.kubectl("-n", namespace, "create", "secret", "generic", "finetune-gateway-tls")
    apiserver.kubectl("-n", namespace, "create", "configmap", "finetune-gateway-ca")
    return namespace


def authority(apiserver: ControlPlane, namespace: str) -> str:
    found = apiserver.kubectl("-n", namespace, "get", "configmap", "finetune-gateway-ca", "-o", "json")
    return str(json.loads(found).get("data", {}).get("ca.crt", ""))


async def test_replicas_that_start_at_once_serve_the_same_certificate(
    api: ApiClient, apiserver: ControlPlane, shipped: str
) -> None:
    replicas = [CertificateStore(api, shipped) for _ in range(4)]
    first, *others = await asyncio.gather(*(replica.ensure(HOSTS, NOW) for replica in replicas))
    assert all(other == first for other in others)
    assert first.ca_certificate == authority(apiserver, shipped)


async def test_a_stored_certificate_is_kept_until_its_time_has_come(
    api: ApiClient, apiserver: ControlPlane, shipped: str
) -> None:
    store = CertificateStore(api, shipped)
    first = await store.ensure(HOSTS, NOW)
    assert await store.ensure(HOSTS, NOW + timedelta(days=59)) == first
    renewed = await store.ensure(HOSTS, NOW + timedelta(days=61))
    assert renewed.certificate != first.certificate
    assert renewed.ca_certificate == first.ca_certificate == authority(apiserver, shipped)


@pytest.mark.parametrize("kind", ["configmap", "secret"])
async def test_what_someone_emptied_is_filled_again(
    api: ApiClient, apiserver: ControlPlane, shipped: str, kind: str
) -> None:
    store = CertificateStore(api, shipped)
    await store.ensure(HOSTS, NOW)
    name = {"configmap": "finetune-gateway-ca", "secret": "finetune-gateway-tls"}[kind]
    emptied = json.dumps([{"op": "remove", "path": "/data"}])
    apiserver.kubectl("-n", shipped, "patch", kind, name, "--type=json", "-p", emptied)
    bundle: Bundle = await store.ensure(HOSTS, NOW)
    assert authority(apiserver, shipped) == bundle.ca_certificate


@pytest.mark.parametrize("kind", ["configmap", "secret"])
async def test_a_missing_object_is_named(api: ApiClient, apiserver: ControlPlane, shipped: str, kind: str) -> None:
    name = {"configmap": "finetune-gateway-ca", "secret": "finetune-gateway-tls"}[kind]
    apiserver.kubectl("-n", shipped, "delete", kind, name)
    with pytest.raises(MissingObjectError, match=f"{shipped}/{name} is missing: apply the manifests"):
        await CertificateStore(api, shipped).ensure(HOSTS, NOW)


async def test_a_request_that_hangs_ends(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_operator.runtime.client.REQUEST_SECONDS", 0.001)
    with pytest.raises(API_ERRORS):
        await JobStatuses(api).read(JobKey("default", "medqa", "uid-1"))
