"""A real API server for every test in this folder, with the CRD installed; and what stands in for a node."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedded_cluster.control_plane import ControlPlane, temporary_control_plane
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.process import wait_until
from finetune_api.base import format_time
from finetune_api.status import FineTuneJobStatus

CRDS = Path(__file__).parents[2] / "crds"
SYSTEM = "finetune-system"
NODE = "node-1"
SECONDS = 30
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and the controllers (Jobs make pods, garbage is collected), the CRD served; no kubelet."""
    with temporary_control_plane(controllers=True) as plane:
        plane.kubectl("apply", "-k", str(CRDS))
        wait_until(lambda: plane.kubectl.run("get", "ftj").returncode == 0, 30, "the API of FineTuneJob")
        yield plane


@pytest.fixture
def namespace(apiserver: ControlPlane) -> str:
    """A namespace of this test's own."""
    name = f"test-{next(_numbers)}"
    apiserver.kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="session")
def system(apiserver: ControlPlane) -> str:
    """The operator's namespace with its default profile, and a node for pods to be bound to."""
    profile = {"image": "registry.example/trainer:1", "shmSize": "64Mi"}
    apiserver.kubectl.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "finetune-profile-default", "namespace": SYSTEM},
                "data": {"profile.yaml": json.dumps(profile)},
            },
        ]
    )
    return SYSTEM


@dataclass
class World:
    """One namespace as a test sees it: objects through kubectl, pods moved on as a kubelet would."""

    kubectl: Kubectl
    namespace: str

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None."""
        done = self.kubectl.run("get", kind, name, "-n", self.namespace, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        found = self.kubectl("get", kind, "-n", self.namespace, "-o", "json", *(["-l", selector] if selector else []))
        return list(json.loads(found)["items"])

    def uid(self, kind: str, name: str) -> str:
        """An object's UID, or empty."""
        found = self.get(kind, name)
        return str(found["metadata"]["uid"]) if found else ""

    def status(self, name: str) -> FineTuneJobStatus:
        """A FineTuneJob's status."""
        found = self.get("ftj", name) or {}
        return FineTuneJobStatus.model_validate(found.get("status") or {})

    def until(self, condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
        """Polls a condition."""
        wait_until(lambda: bool(condition()), seconds, what)

    def until_status(self, name: str, holds: Callable[[FineTuneJobStatus], Any], what: str) -> FineTuneJobStatus:
        """Polls a status and returns it."""
        self.until(lambda: holds(self.status(name)), what)
        return self.status(name)

    def run_pod(self, job: str) -> str:
        """Waits for a Job's pod that has not ended, binds it to the node and starts its container."""
        self.until(lambda: self._pending(job), f"a pending pod of Job {job}")
        name = self._pending(job)[0]["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        url = f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding"
        self.kubectl("create", "--raw", url, "-f", "-", stdin=json.dumps(binding))
        self.patch_pod(name, {"phase": "Running", "startTime": _now()}, {"running": {"startedAt": _now()}})
        return str(name)

    def end_pod(self, name: str, exit_code: int, message: str = "", reason: str = "", **status: Any) -> None:
        """Ends a pod's container."""
        terminated = {
            "exitCode": exit_code,
            "reason": reason or ("Error" if exit_code else "Completed"),
            "message": message,
            "finishedAt": _now(),
            "startedAt": _now(),
        }
        phase = {"phase": "Failed" if exit_code else "Succeeded"}
        self.patch_pod(name, {**phase, **status}, {"terminated": terminated})

    def patch_pod(self, name: str, status: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        """Writes a pod's status as a kubelet would."""
        container = {
            "name": "trainer",
            "image": "registry.example/trainer:1",
            "imageID": "registry.example/trainer@sha256:" + "a" * 64,
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        body = {"status": {**status, **({"containerStatuses": [container]} if state else {})}}
        options = ["-n", self.namespace, "--subresource=status", "--type=strategic", "-p", json.dumps(body)]
        self.kubectl("patch", "pod", name, *options)

    def _pending(self, job: str) -> list[dict[str, Any]]:
        pods = self.objects("pods", f"job-name={job}")
        return [pod for pod in pods if pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")]


@pytest.fixture
def world(apiserver: ControlPlane, namespace: str) -> World:
    """The test's namespace."""
    return World(apiserver.kubectl, namespace)


@dataclass
class OperatorProcess:
    """The real operator, watching one namespace."""

    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Starts it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "finetune_operator"], env=self.environment, stdout=log, stderr=log
            )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it, by default without a chance to tidy up."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
        self.process = None


@pytest.fixture
def operator(apiserver: ControlPlane, system: str, namespace: str) -> Iterator[OperatorProcess]:
    """A started operator."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = os.environ | {
            "KUBECONFIG": str(apiserver.kubeconfig),
            "OPERATOR_NAMESPACE": system,
            "WATCH_NAMESPACES": namespace,
            "HEALTH_PORT": str(port),
        }
        started = OperatorProcess(environment, Path(folder) / "operator.log")
        started.start()
        yield started
        started.kill()
        print(started.log.read_text())  # shown by pytest when the test fails


def _now() -> str:
    return format_time(datetime.now(UTC))
