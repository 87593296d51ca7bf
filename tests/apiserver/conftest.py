"""A real API server for every test in this folder, with the CRD installed; and what stands in for a node."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedded_cluster.control_plane import ControlPlane, temporary_control_plane
from embedded_cluster.probe import client_context
from embedded_cluster.process import wait_until
from finetune_api.base import format_time
from finetune_api.status import FineTuneJobStatus

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
OPERATOR_RIGHTS = ROOT / "manifests/base/operator-rbac.yaml"
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
    apiserver.kubectl("apply", "-f", str(OPERATOR_RIGHTS))
    return SYSTEM


@pytest.fixture(scope="session")
def operator_kubeconfig(apiserver: ControlPlane, system: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the operator's own service account, with the rights of its manifest and no more."""
    config = json.loads(apiserver.kubectl("config", "view", "--raw", "-o", "json"))
    token = apiserver.kubectl("create", "token", "finetune-operator", "-n", system).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@dataclass
class World:
    """One namespace as a test sees it, with pods moved on as a kubelet would. Plain HTTP: polling kubectl is slow."""

    plane: ControlPlane
    namespace: str

    def __post_init__(self) -> None:
        https = urllib.request.HTTPSHandler(context=client_context(self.plane.pki, "admin"))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request to the API server as its administrator; None for an object that is not there."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        request = urllib.request.Request(self.plane.server + path, data, headers, method=method)
        try:
            with self._opener.open(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from error

    def path(self, kind: str, name: str = "") -> str:
        """The URL path of a kind in this namespace, or of one object."""
        group = {"finetunejobs": "/apis/finetune.dev/v1alpha1", "jobs": "/apis/batch/v1"}.get(kind, "/api/v1")
        return f"{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def apply(self, *documents: dict[str, Any]) -> None:
        """Applies objects as a user would."""
        self.plane.kubectl.apply(documents)

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object."""
        self.request("DELETE", self.path(kind, name))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None."""
        found: dict[str, Any] | None = self.request("GET", self.path(kind, name))
        return found

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        found = self.request("GET", f"{self.path(kind)}?labelSelector={selector}")
        return list(found["items"])

    def uid(self, kind: str, name: str) -> str:
        """An object's UID, or empty."""
        found = self.get(kind, name)
        return str(found["metadata"]["uid"]) if found else ""

    def status(self, name: str) -> FineTuneJobStatus:
        """A FineTuneJob's status."""
        found = self.get("finetunejobs", name) or {}
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
        self.request("POST", self.path("pods", f"{name}/binding"), binding)
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
        self.request("PATCH", self.path("pods", f"{name}/status"), body, "application/strategic-merge-patch+json")

    def _pending(self, job: str) -> list[dict[str, Any]]:
        pods = self.objects("pods", f"job-name={job}")
        return [pod for pod in pods if pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")]


@pytest.fixture
def world(apiserver: ControlPlane, namespace: str) -> World:
    """The test's namespace."""
    return World(apiserver, namespace)


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

    def is_alive(self) -> bool:
        """Whether it answers its liveness probe: it has started whole."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.environment['HEALTH_PORT']}/healthz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it, by default without a chance to tidy up."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
        self.process = None


@pytest.fixture
def operator(operator_kubeconfig: Path, system: str, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """A started operator."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "KUBECONFIG": str(operator_kubeconfig),
        "OPERATOR_NAMESPACE": system,
        "WATCH_NAMESPACES": namespace,
        "HEALTH_PORT": str(port),
    }
    started = OperatorProcess(environment, tmp_path / "operator.log")
    started.start()
    yield started
    started.kill()
    print(started.log.read_text())  # shown by pytest when the test fails


def _now() -> str:
    return format_time(datetime.now(UTC))
