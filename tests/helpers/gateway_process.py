"""The gateway as its own process on free ports, and pushes to it over TLS."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.ports import ControlPlanePorts
from embedded_cluster.process import wait_until
from finetune_api import names
from gateway_runs import SECONDS, Run

SYSTEM = "finetune-system"


@dataclass(frozen=True)
class Answer:
    """The gateway's answer to a push."""

    code: int
    message: str
    retry_after: str | None = None


@dataclass(frozen=True)
class Gateway:
    """A running gateway process."""

    process: subprocess.Popen[str]
    port: int
    health_port: int
    authority: Path
    log: Path

    def url(self, run: Run) -> str:
        return f"https://localhost:{self.port}{names.progress_path(run.namespace, run.name)}"

    def push(self, run: Run, token: str | None, content: bytes) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.send(urllib.request.Request(self.url(run), content, headers, method="POST"))

    def send(self, request: urllib.request.Request) -> Answer:
        context = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:
                return Answer(answer.status, json.load(answer)["message"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error)["message"], error.headers["Retry-After"])

    def refuses(self, run: Run, token: str, content: bytes, code: int) -> Answer:
        """Waits until a push is answered with a code; what comes too often is not counted."""
        answers: list[Answer] = []

        def refused() -> bool:
            answers.append(self.push(run, token, content))
            return answers[-1].code == code

        wait_until(refused, SECONDS, f"answer {code} to a push")
        return answers[-1]


@contextmanager
def running_gateway(kubeconfig: Path, folder: Path, **environment: str) -> Iterator[Gateway]:
    """A gateway on free ports, ready to take pushes; it is ended with the block."""
    free = ControlPlanePorts.free()
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "OPERATOR_NAMESPACE": SYSTEM,
        "GATEWAY_ADDRESS": "127.0.0.1",
        "GATEWAY_PORT": str(free.etcd),
        "GATEWAY_HEALTH_PORT": str(free.scheduler),
        "GATEWAY_EXTRA_HOSTS": "localhost",
        "GATEWAY_FLUSH_SECONDS": "0.3",
    }
    log = folder / f"gateway-{free.etcd}.log"
    command = [sys.executable, "-m", "finetune_operator", "gateway"]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=os.environ | settings | environment, stderr=output, text=True)
    try:
        wait_until(lambda: ready(free.scheduler) or process.poll() is not None, SECONDS, "readiness of the gateway")
        assert process.poll() is None, log.read_text()
        yield Gateway(process, free.etcd, free.scheduler, folder / "ca.crt", log)
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def save_authority(apiserver: ControlPlane, file: Path) -> None:
    """Saves what the operator would hand to a job's pods."""
    found = apiserver.kubectl("-n", SYSTEM, "get", "configmap", names.GATEWAY_CA_CONFIG_MAP, "-o", "json")
    file.write_text(json.loads(found)["data"]["ca.crt"])
