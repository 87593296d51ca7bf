"""A FineTuneJob as the gateway meets it: its Jobs, pods, tokens, and what operator and trainer would write."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until
from finetune_api import names

SECONDS = 30
SPEC = {
    "model": {"source": "hf://owner/model"},
    "dataset": {"source": "pvc://data/rows.jsonl"},
    "output": {"destination": "pvc://models/medqa"},
}


def condition(kind: str, status: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Test", "lastTransitionTime": "2026-01-01T08:00:00Z"}


@dataclass(frozen=True)
class Pod:
    """A stage's pod as the Job controller made it."""

    name: str
    uid: str
    created: str
    job_uid: str


@dataclass
class Run:
    """A FineTuneJob with its children, and what operator and trainer would do with it."""

    apiserver: ControlPlane
    namespace: str
    uid: str
    name: str = "medqa"
    attempts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def create(cls, apiserver: ControlPlane, namespace: str, name: str = "medqa") -> Run:
        document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": SPEC}
        return cls(apiserver, namespace, created(apiserver, namespace, document)["metadata"]["uid"], name)

    @property
    def audience(self) -> str:
        return names.token_audience(self.namespace, self.name, self.uid)

    def start(self, stage: str = "train", owner: Run | None = None) -> Pod:
        """Creates a stage's Job and waits for its pod."""
        created(self.apiserver, self.namespace, stage_job(self, stage, owner or self))
        return self.pods(stage, 1)[0]

    def running(self) -> Pod:
        """A training pod that the operator has recorded."""
        pod = self.start()
        self.record(pod)
        return pod

    def retry(self, stage: str, old: Pod) -> Pod:
        """Has the Job controller make a second pod, in a later second."""
        wait_until(lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" > old.created, 5, "the next second")
        patch = json.dumps({"spec": {"parallelism": 2}})
        self._kubectl("patch", "job", f"{self.name}-{stage}", "-p", patch)
        return next(pod for pod in self.pods(stage, 2) if pod.name != old.name)

    def pods(self, stage: str, count: int) -> list[Pod]:
        """The pods of a stage, once there are so many."""
        found: list[dict[str, Any]] = []

        def made() -> bool:
            selector = f"{names.JOB_UID_LABEL}={self.uid},{names.STAGE_LABEL}={stage}"
            found[:] = json.loads(self._kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
            return len(found) >= count

        wait_until(made, SECONDS, f"creation of {count} pods of {self.name}-{stage}")
        return [
            Pod(meta["name"], meta["uid"], meta["creationTimestamp"], meta["ownerReferences"][0]["uid"])
            for meta in (pod["metadata"] for pod in found)
        ]

    def record(self, pod: Pod, stage: str = "Train") -> None:
        """The operator's first status, or a new attempt in it."""
        number = sum(attempt["stage"] == stage for attempt in self.attempts) + 1
        self.attempts.append({"stage": stage, "number": number, "jobUID": pod.job_uid, "pod": pod.name})
        shown = {"Train": "Training", "Evaluate": "Evaluating"}[stage]
        self.write({"stage": shown, "conditions": [condition("Succeeded", "Unknown")], "attempts": self.attempts})

    def write(self, status: dict[str, Any]) -> None:
        self._kubectl(
            "patch", "ftj", self.name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )

    @property
    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._kubectl("get", "ftj", self.name, "-o", "json")).get("status", {}))

    def shows(self, step: int, pod: Pod) -> None:
        """Waits until status shows a step of a pod."""

        def there() -> bool:
            progress = self.status.get("progress", {})
            return (progress.get("step"), progress.get("pod")) == (step, pod.name)

        wait_until(there, SECONDS, f"step {step} of {pod.name} in status")

    def token(self, pod: Pod | None, audience: str | None = None) -> str:
        """A token as the kubelet projects it into a pod; of no pod with None."""
        options = [f"--audience={audience or self.audience}"]
        if pod:
            options += ["--bound-object-kind=Pod", f"--bound-object-name={pod.name}", f"--bound-object-uid={pod.uid}"]
        return self._kubectl("create", "token", "default", *options).strip()

    def _kubectl(self, *arguments: str) -> str:
        return self.apiserver.kubectl("-n", self.namespace, *arguments)


def created(apiserver: ControlPlane, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
    """Creates an object and returns it as the API server made it."""
    answer = apiserver.kubectl("-n", namespace, "create", "-f", "-", "-o", "json", stdin=json.dumps(document))
    return dict(json.loads(answer))


def pod_spec() -> dict[str, Any]:
    return {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "trainer"}]}


def labels(run: Run, stage: str = "train") -> dict[str, str]:
    return {names.JOB_LABEL: run.name, names.JOB_UID_LABEL: run.uid, names.STAGE_LABEL: stage}


def stage_job(run: Run, stage: str, owner: Run) -> dict[str, Any]:
    kind = {"apiVersion": names.API_VERSION, "kind": names.KIND}
    reference = kind | {"name": owner.name, "uid": owner.uid, "controller": True}
    template = {"metadata": {"labels": labels(run, stage)}, "spec": pod_spec()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{run.name}-{stage}", "ownerReferences": [reference]},
        "spec": {"parallelism": 1, "template": template},  # without completions: a second pod can be asked for
    }


def body(step: int, total: int = 60, **metrics: object) -> bytes:
    values = {"current_step": step, "total_steps": total, **metrics}
    listed = [{"name": name, "value": str(value)} for name, value in values.items()]
    return json.dumps({"trainerStatus": {"progressPercentage": step * 100 // total, "metrics": listed}}).encode()
