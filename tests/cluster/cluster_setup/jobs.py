"""FineTuneJobs in tests: apply one, wait for what its status says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster_setup.install import CLAIM, SYSTEM_NAMESPACE
from cluster_setup.target import REPOSITORY
from embedded_cluster.errors import ClusterError
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.process import wait_until
from finetune_api.job import FineTuneJob

ROWS = REPOSITORY / "tests/data/medqa_synthetic"
CONVERSATIONS = REPOSITORY / "tests/data/chat_synthetic"
# Two stages of a tiny model, each mostly imports; two jobs share two cores.
RUN_SECONDS = 420


@dataclass(frozen=True)
class Jobs:
    """The FineTuneJobs of one namespace and what belongs to them."""

    kubectl: Kubectl
    namespace: str

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        """Applies a job."""
        metadata = {"name": name, "namespace": self.namespace}
        document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
        self.kubectl.apply([document])

    def get(self, name: str) -> FineTuneJob:
        """The job as it stands. Raises ClusterError when it is not there."""
        return FineTuneJob.model_validate_json(
            self.kubectl("-n", self.namespace, "get", "finetunejob", name, "-o", "json")
        )

    def wait(self, name: str, condition: Callable[[FineTuneJob], bool], seconds: float, what: str) -> FineTuneJob:
        """Waits until the job fulfils a condition. Raises ClusterError, with its last status, when it does not."""
        try:
            wait_until(lambda: condition(self.get(name)), seconds, f"{name}: {what}")
        except ClusterError as error:
            status = json.dumps(self.get(name).status.to_api(), indent=1)
            raise ClusterError(f"{error}\n{status}\n{self.events()}") from error
        return self.get(name)

    def wait_for_end(self, name: str, seconds: float) -> FineTuneJob:
        """Waits until the job has succeeded or failed."""
        return self.wait(name, lambda job: job.status.completion_time is not None, seconds, "the end")

    def delete(self, name: str) -> None:
        """Deletes the job and returns when the object is gone."""
        self.kubectl("-n", self.namespace, "delete", "finetunejob", name, "--wait=true")

    def children(self, name: str, kinds: str = "jobs,pods") -> list[dict[str, Any]]:
        """The objects that carry the job's label."""
        found = self.kubectl("-n", self.namespace, "get", kinds, "-l", f"finetune.dev/job={name}", "-o", "json")
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return items

    def events(self) -> str:
        """The namespace's events, for a failure's message."""
        return self.kubectl.run("-n", self.namespace, "get", "events", "--sort-by=.lastTimestamp").stdout


def has_progress(job: FineTuneJob) -> bool:
    """Whether a stage has told of a step."""
    return job.status.progress is not None and job.status.progress.step > 0


def tiny(destination: str, steps: int = 3, **sections: dict[str, Any]) -> dict[str, Any]:
    """A spec that trains the two-layer model for a few steps on the CPU."""
    spec: dict[str, Any] = {
        "model": {"source": f"pvc://{CLAIM}/tiny", "maxSequenceLength": 256},
        "dataset": {"source": f"pvc://{CLAIM}/medqa_synthetic", "workers": 1},
        "training": {"batchSize": 4, "maxSteps": steps, "loggingSteps": 1},
        "evaluation": {
            "dataset": {"source": f"pvc://{CLAIM}/medqa_synthetic"},
            "maxNewTokens": 4,
            "samplePrompts": 1,
        },
        "output": {"destination": f"pvc://{CLAIM}/runs/{destination}"},
        "runtime": {
            "gpusPerNode": 0,
            "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        },
    }
    return spec | {name: spec.get(name, {}) | section for name, section in sections.items()}


def restart_operator(kubectl: Kubectl) -> None:
    """Kills the operator's pod and returns when its successor is ready."""
    kubectl("-n", SYSTEM_NAMESPACE, "delete", "pod", "-l", "app.kubernetes.io/name=finetune-operator", "--wait=true")
    kubectl("-n", SYSTEM_NAMESPACE, "rollout", "status", "deployment/finetune-operator", "--timeout=120s")
