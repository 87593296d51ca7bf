"""A burst of FineTuneJobs on a control plane of its own: how much longer than the bare API writes does it take?

``python tests/bench/burst.py 1000 own`` (from the repository's root, in its environment) prints one line of JSON.
``own`` gives each job an output destination of its own, ``shared`` one to all. ``--profile FILE`` writes where the
operator's time went, for ``python -m pstats FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/cluster")]

from embedded_cluster.control_plane import ControlPlane, temporary_control_plane  # noqa: E402
from embedded_cluster.probe import client_context  # noqa: E402
from embedded_cluster.process import wait_until  # noqa: E402

SYSTEM = "finetune-system"
CONCURRENT = 100
DEADLINE = 1800.0
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
FINETUNEJOBS = "/apis/finetune.dev/v1alpha1/namespaces/{}/finetunejobs"
COUNTED = frozenset({"finetunejobs", "jobs", "configmaps", "events", "pods", "persistentvolumeclaims"})


def finetunejob(number: int, shared: bool) -> dict[str, Any]:
    """A FineTuneJob like a user's; every one trains something else."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": f"burst-{number}"},
        "spec": {
            "model": {"source": "pvc://models/base"},
            "dataset": {"source": "pvc://models/rows"},
            "training": {"maxSteps": 10, "seed": number},
            "output": {"destination": "pvc://models/runs" + ("" if shared else f"-{number}")},
        },
    }


def plain_job(number: int) -> dict[str, Any]:
    """A Job that makes no pod."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "registry.example/trainer:1"}]}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"plain-{number}"}, "spec": spec}


class Client:
    """A plain client of the API server, as its administrator."""

    def __init__(self, plane: ControlPlane, session: aiohttp.ClientSession) -> None:
        self._server = plane.server
        self._session = session

    async def create(self, path: str, objects: Iterable[dict[str, Any]]) -> float:
        """Creates objects. Returns the seconds that it took."""
        turn = asyncio.Semaphore(CONCURRENT)

        async def one(body: dict[str, Any]) -> None:
            async with turn, self._session.post(self._server + path, json=body) as answer:
                if answer.status >= 300:
                    raise RuntimeError(await answer.text())

        begin = time.monotonic()
        await asyncio.gather(*map(one, objects))
        return time.monotonic() - begin

    async def count(self, path: str) -> int:
        """How many objects there are."""
        accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        async with self._session.get(f"{self._server}{path}?limit=1", headers=accept) as answer:
            page = await answer.json()
        return len(page["items"] or []) + int(page["metadata"].get("remainingItemCount") or 0)

    async def requests(self) -> dict[str, int]:
        """The requests that the API server has counted, by verb, resource and code."""
        async with self._session.get(f"{self._server}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found: dict[str, int] = {}
        for line in lines:
            if not line.startswith("apiserver_request_total{"):
                continue
            labels = dict(pair.split("=", 1) for pair in line[24 : line.rindex("}")].replace('"', "").split(","))
            if labels["resource"] in COUNTED:
                resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
                name = f"{labels['verb']} {resource} {labels['code']}"
                found[name] = found.get(name, 0) + int(float(line.rsplit(" ", 1)[1]))
        return found


async def measure(plane: ControlPlane, count: int, shared: bool, operator: Callable[[], int]) -> None:
    """Writes the same objects without and with the operator, which ``operator`` starts, and prints what came of it."""
    connector = aiohttp.TCPConnector(ssl=client_context(plane.pki, "admin"), limit=2 * CONCURRENT)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(plane, session)
        bodies = [finetunejob(number, shared) for number in range(count)]
        plain = await client.create(FINETUNEJOBS.format("plain"), bodies)
        plain += await client.create(JOBS.format("plain"), map(plain_job, range(count)))
        pid = operator()
        idle_rss = _rss_mib(pid)
        before, spent, begin = await client.requests(), _cpu_seconds(pid), time.monotonic()
        await client.create(FINETUNEJOBS.format("burst"), bodies)
        while await client.count(JOBS.format("burst")) < count:
            if time.monotonic() - begin > DEADLINE:
                raise RuntimeError("not all Jobs were created in time")
            await asyncio.sleep(0.25)
        took = time.monotonic() - begin
        told = {
            "jobs": count,
            "destinations": "shared" if shared else "own",
            "plain_seconds": round(plain, 2),
            "seconds": round(took, 2),
            "ratio": round(took / plain, 2),
            "operator_cpu_seconds": round(_cpu_seconds(pid) - spent, 2),
            "operator_rss_mib": [idle_rss, _rss_mib(pid)],
        }
        print(json.dumps(told))
        after = await client.requests()
        changes = {name: value - before.get(name, 0) for name, value in after.items()}
        print(json.dumps({name: value for name, value in sorted(changes.items()) if value >= count / 20}))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


@contextmanager
def _operator(plane: ControlPlane, profile: str | None) -> Iterator[Callable[[], int]]:
    """What starts the operator with its own account and rights, on namespace burst, and returns its process id."""
    folder = Path(tempfile.mkdtemp(prefix="burst-"))
    config = json.loads(plane.kubectl("config", "view", "--raw", "-o", "json"))
    token = plane.kubectl("create", "token", "finetune-operator", "-n", SYSTEM).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    (folder / "kubeconfig").write_text(json.dumps(config))
    environment = os.environ | {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "OPERATOR_NAMESPACE": SYSTEM,
        "WATCH_NAMESPACES": "burst",
        "HEALTH_PORT": "18099",
    }
    profiled = ["-m", "cProfile", "-o", str(Path(profile).absolute())] if profile else []
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        log = folder / "operator.log"
        with log.open("wb") as out:
            command = [sys.executable, *profiled, "-m", "finetune_operator"]
            processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
        wait_until(lambda: "starts with" in log.read_text(), 60, f"the operator's start, see {log}")
        return processes[0].pid

    try:
        yield start
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def main() -> None:
    """Runs one burst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("destinations", choices=["own", "shared"])
    parser.add_argument("--profile")
    given = parser.parse_args()
    with temporary_control_plane(controllers=True) as plane:
        plane.kubectl("apply", "-k", str(ROOT / "crds"))
        wait_until(lambda: plane.kubectl.run("get", "ftj").returncode == 0, 30, "the API of FineTuneJob")
        namespaces = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("burst", "plain", SYSTEM)
        ]
        profile = {"profile.yaml": json.dumps({"image": "registry.example/trainer:1"})}
        meta = {"name": "finetune-profile-default", "namespace": SYSTEM}
        plane.kubectl.apply([*namespaces, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": profile}])
        plane.kubectl("apply", "-f", str(ROOT / "manifests/base/operator-rbac.yaml"))
        with _operator(plane, given.profile) as operator:
            asyncio.run(measure(plane, given.count, given.destinations == "shared", operator))


if __name__ == "__main__":
    main()
