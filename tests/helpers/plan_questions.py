"""Questions to the operator's plan: a FineTuneJob, its children and what was looked up, made in a line each."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_api.base import canonical_json, format_time
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.finetunejob.observed import observe
from finetune_operator.finetunejob.plan import plan
from finetune_operator.finetunejob.steps import Facts, Settle, Setup, Step
from finetune_operator.workload.objects import Job, Pod
from finetune_operator.workload.profile import LoadedProfile, Profile

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UID = "11111111-aaaa"
OLD_UID = "00000000-dead"
SETUP = Setup(LoadedProfile("default", Profile(image="registry.example/trainer:1"), "f" * 64))
READY = Facts(setup=SETUP, config_ready=True, occupied="")
SPEC: dict[str, Any] = {
    "model": {"source": "pvc://models/base"},
    "dataset": {"source": "pvc://data/rows"},
    "evaluation": {"dataset": {"source": "pvc://data/rows"}},
    "output": {"destination": "pvc://models/run"},
}
TRAINING = {"steps": 200, "firstLoss": "2.31", "finalLoss": "0.312", "runtimeSeconds": 102, "trainedTokens": 10200}
ADAPTER = {"uri": "pvc://models/run/adapter", "sha256": "b" * 64, "sizeBytes": 45, "files": 3}
EVALUATION = {"summary": "0.41→0.45", "examples": 1273, "tuned": {"accuracy": "0.447"}}


def job(status: dict[str, Any] | FineTuneJobStatus | None = None, **changes: Any) -> JobObject:
    """The FineTuneJob 'medqa'. ``changes`` replace fields of its spec; None removes one."""
    spec = {name: value for name, value in (copy.deepcopy(SPEC) | changes).items() if value is not None}
    metadata = {"name": "medqa", "namespace": "ml", "uid": UID, "generation": 1, "resourceVersion": "7"}
    raw_status = status.to_api() if isinstance(status, FineTuneJobStatus) else status
    return read_job({"metadata": metadata, "spec": spec, "status": raw_status or {}})


def child(stage: str = "train", uid: str = "job-1", owner: str = UID, age: float = 60, **condition: str) -> Job:
    """A stage's Job; ``condition`` is one condition of its status."""
    metadata = {
        "name": f"medqa-{stage}",
        "namespace": "ml",
        "uid": uid,
        "creationTimestamp": ago(age),
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": {"train": "train", "eval": "evaluate"}[stage]},
        "annotations": {"finetune.dev/profile-sha256": "f" * 64},
        "ownerReferences": [{"kind": "FineTuneJob", "name": "medqa", "uid": owner, "controller": True}],
    }
    conditions = [{"status": "True", **condition}] if condition else []
    return Job.model_validate({"metadata": metadata, "status": {"conditions": conditions}})


def pod(
    name: str = "p1", stage: str = "train", of: str = "job-1", uid: str = UID, age: float = 50, **status: Any
) -> Pod:
    """A pod of a stage's Job, on a node unless it is unscheduled."""
    conditions = status.pop("conditions", [])
    metadata = {
        "name": name,
        "namespace": "ml",
        "uid": f"uid-{name}",
        "creationTimestamp": ago(age),
        "deletionTimestamp": status.pop("deletionTimestamp", None),
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": stage, "finetune.dev/job-uid": uid},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": of, "controller": True}],
    }
    state = status.pop("state", None)
    return Pod.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "" if conditions and conditions[0]["type"] == "PodScheduled" else "node-1",
                "containers": [{"image": "registry.example/trainer:1"}],
            },
            "status": {
                "phase": "Running",
                "startTime": ago(age - 1),
                "conditions": conditions,
                "containerStatuses": [{"imageID": "", "state": state}] if state else [],
                **status,
            },
        }
    )


def ended(name: str = "p1", code: int = 0, message: str = "", reason: str = "", **more: Any) -> Pod:
    """A pod whose container has ended."""
    terminated = {"exitCode": code, "message": message, "reason": reason, "finishedAt": format_time(NOW)}
    by_kubelet = dict(zip(("reason", "message"), more.pop("note", ()), strict=False))
    return pod(name, phase="Failed" if code else "Succeeded", state={"terminated": terminated}, **by_kubelet, **more)


def message(stage: str, uid: str = UID, **sections: Any) -> str:
    """A termination message of this job's spec."""
    spec = job().spec
    assert spec is not None
    whole = {"version": 1, "stage": stage, "jobUID": uid, "specSha256": spec.sha256(), "finishedAt": format_time(NOW)}
    return canonical_json(whole | sections)


def trained(uid: str = UID) -> str:
    """A trainer's result."""
    return message("Train", uid, training=TRAINING, adapter=ADAPTER)


def decide(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> Step:
    """One question to the plan."""
    jobs = [one for one in children if isinstance(one, Job)]
    pods = [one for one in children if isinstance(one, Pod)]
    return plan(subject, observe(subject, jobs, pods), facts, now)


def settled(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> FineTuneJobStatus:
    """The status that the plan settles on."""
    step = decide(subject, *children, facts=facts, now=now)
    assert isinstance(step, Settle), step
    return step.status


def verdict(status: FineTuneJobStatus) -> tuple[str, str]:
    """Status and reason of Succeeded."""
    found = status.condition("Succeeded")
    assert found is not None
    return found.status, found.reason


def after_training() -> FineTuneJobStatus:
    """The status once training is recorded."""
    return settled(job(), child(), ended(message=trained()))


def ago(seconds: float) -> str:
    return format_time(NOW - timedelta(seconds=seconds))
