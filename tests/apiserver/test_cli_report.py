"""`kubectl finetune report` against a real API server: its pod is admitted as restricted, and never stays behind.

No kubelet runs here: the test plays it. That a page arrives is shown on a cluster (tests/cluster/test_report_page.py).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until

DATA = Path(__file__).parents[1] / "data/cli"
SECONDS = 60
NAMES = (f"reported-{number}" for number in itertools.count())
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True)
class Reports:
    """Jobs of a namespace that admits restricted pods only."""

    apiserver: ControlPlane
    namespace: str

    def create(self, status: dict[str, Any] | None) -> str:
        """A job with a status."""
        name = next(NAMES)
        document = yaml.safe_load((DATA / "new.yaml").read_text(encoding="utf-8"))
        document["metadata"] = {"name": name, "namespace": self.namespace}
        document.pop("status", None)
        self.apiserver.kubectl.apply([document])
        if status:
            patch = json.dumps([{"op": "add", "path": "/status", "value": status}])
            self("patch", "ftj", name, "--subresource=status", "--type=json", "-p", patch)
        return name

    def start(self, name: str, output: Path) -> subprocess.Popen[str]:
        kubeconfig = str(self.apiserver.kubeconfig)
        options = ["-n", self.namespace, "--kubeconfig", kubeconfig, "-o", str(output)]
        return subprocess.Popen(
            [sys.executable, "-m", "finetune_cli.main", "report", name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )

    def pods(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self("get", "pods", "-o", "json"))["items"]
        return items

    def __call__(self, *arguments: str) -> str:
        return self.apiserver.kubectl("-n", self.namespace, *arguments)


@pytest.fixture(scope="module")
def reports(apiserver: ControlPlane) -> Reports:
    namespace = "reports"
    apiserver.kubectl("create", "namespace", namespace)
    apiserver.kubectl("label", "namespace", namespace, RESTRICTED)
    return Reports(apiserver, namespace)


def finished() -> dict[str, Any]:
    status: dict[str, Any] = yaml.safe_load((DATA / "succeeded.yaml").read_text(encoding="utf-8"))["status"]
    status["stages"] = [{"name": "Evaluate", "lineage": {"image": "registry.example.com/trainer:1"}}]
    return status


def test_what_has_no_page_is_told_and_no_pod_is_made(reports: Reports, tmp_path: Path) -> None:
    without = finished()
    del without["evaluation"]["pageURI"]
    for name, told in (
        ("nobody", "there is no FineTuneJob 'nobody'"),
        (reports.create(None), "has no evaluation yet"),
        (reports.create(without), "left no page"),
    ):
        command = reports.start(name, tmp_path / "page.html")
        _, errors = command.communicate(timeout=SECONDS)
        assert (command.returncode, told in errors) == (3, True), errors
    assert reports.pods() == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restricted_namespace_admits_the_pod_and_none_stays_when_the_command_is_stopped(
    reports: Reports, tmp_path: Path, number: signal.Signals
) -> None:
    name = reports.create(finished())
    command = reports.start(name, tmp_path / "page.html")
    wait_until(lambda: bool(reports.pods()), SECONDS, "the reader's pod")
    (pod,) = reports.pods()
    assert re.fullmatch(rf"{name}-report-[0-9a-f]{{8}}", pod["metadata"]["name"])
    assert pod["metadata"]["ownerReferences"][0]["name"] == name
    command.send_signal(number)
    _, errors = command.communicate(timeout=SECONDS)
    assert command.returncode == 130, errors
    assert "nothing was saved" in errors
    wait_until(lambda: not reports.pods(), SECONDS, "the pod's end")


def test_what_hinders_the_pod_for_good_ends_the_command_with_the_clusters_words(
    reports: Reports, tmp_path: Path
) -> None:
    command = reports.start(reports.create(finished()), tmp_path / "page.html")
    wait_until(lambda: bool(reports.pods()), SECONDS, "the reader's pod")
    (pod,) = reports.pods()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    entry = {"name": "reader", "state": waiting, "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
    patch = json.dumps({"status": {"containerStatuses": [entry]}})
    reports("patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", patch)
    _, errors = command.communicate(timeout=SECONDS)
    assert command.returncode == 3
    assert "ImagePullBackOff: no such image" in errors
    wait_until(lambda: not reports.pods(), SECONDS, "the pod's end")
