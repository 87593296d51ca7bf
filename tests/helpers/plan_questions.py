"""Questions to the operator's plan: a FineTuneJob, its children and what was looked up, made in a line each."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_api.base import canonical_json, format_time
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.finetunejob.observed import observe
from finetune_operator.finetunejob.plan import plan
from finetune_operator.finetunejob.steps import Facts, Settle, Setup, Step, Write
from finetune_operator.workload.objects import Job, Pod
from finetune_operator.workload.profile import LoadedProfile, Profile

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UID = "11111111-aaaa"
OLD_UID = "00000000-dead"
SETUP = Setup(LoadedProfile("default", Profile(image="registry.example/trainer:1"), "f" * 64))
READY = Facts(setup=SETUP, occupied="")
LISTED = replace(READY, pods_listed=True)
SPEC: dict[str, Any] = {
    "model": {"source": "pvc://models/base"},
    "dataset": {"source": "pvc://data/rows"},
    "evaluation": {"dataset": {"source": "pvc://data/rows"}},
    "output": {"destination": "pvc://models/run"},
}
TRAINING = {"steps": 200, "firstLoss": "2.31", "finalLoss": "0.312", "runtimeSeconds": 102, "trainedTokens": 10200}
ADAPTER = {"uri": "pvc://models/run/adapter", "sha256": "b" * 64, "sizeBytes": 45, "files": 3}
MODEL = {"uri": "pvc://models/run/model", "sha256": "c" * 64, "sizeBytes": 2471645608, "files": 5, "dtype": "bfloat16"}
EVALUATION = {
    "summary": "0.41→0.45",
    "examples": 1273,
    "metrics": [{"name": "Accuracy", "tuned": {"value": "0.447"}}],
}
MEMORY = {"summary": "1.3/79 GiB (1.7%)"}


def job(status: dict[str, Any] | FineTuneJobStatus | None = None, **changes: Any) -> JobObject:
    """The FineTuneJob 'medqa'. ``changes`` replace fields of its spec; None removes one."""
    spec = {name: value for name, value in (copy.deepcopy(SPEC) | changes).items() if value is not None}
    metadata = {"name": "medqa", "namespace": "ml", "uid": UID, "generation": 1, "resourceVersion": "7"}
    raw_status = status.to_api() if isinstance(status, FineTuneJobStatus) else status
    return read_job({"metadata": metadata, "spec": spec, "status": raw_status or {}})


def full_job(status: dict[str, Any] | FineTuneJobStatus | None = None, **changes: Any) -> JobObject:
    """The same with method Full, whose result is a model and no adapter."""
    return job(status, method="Full", **changes)


def child(
    stage: str = "train",
    uid: str = "job-1",
    owner: str = UID,
    age: float = 60,
    suspend: bool = False,
    deleting: bool = False,
    **condition: str,
) -> Job:
    """A stage's Job; ``condition`` is one condition of its status."""
    metadata = {
        "name": f"medqa-{stage}",
        "namespace": "ml",
        "uid": uid,
        "creationTimestamp": ago(age),
        "deletionTimestamp": ago(0) if deleting else None,
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": {"train": "train", "eval": "evaluate"}[stage]},
        "annotations": {"finetune.dev/profile-sha256": "f" * 64},
        "ownerReferences": [{"kind": "FineTuneJob", "name": "medqa", "uid": owner, "controller": True}],
    }
    conditions = [{"status": "True", **condition}] if condition else []
    return Job.model_validate(
        {"metadata": metadata, "spec": {"suspend": suspend}, "status": {"conditions": conditions}}
    )


def pod(
    name: str = "p1", stage: str = "train", of: str = "job-1", uid: str = UID, age: float = 50, **status: Any
) -> Pod:
    """A pod of a stage's Job, on a node unless it is unscheduled. ``sidecar`` is the state of an injected container."""
    conditions = status.pop("conditions", [])
    metadata = {
        "name": name,
        "namespace": "ml",
        "uid": f"uid-{name}",
        "creationTimestamp": ago(age),
        "deletionTimestamp": status.pop("deletionTimestamp", None),
        "labels": {"finetune.dev/job": "medqa", "finetune.dev/stage": stage, "finetune.dev/job-uid": uid},
        "annotations": {"finetune.dev/folder": "pvc://models/run/x", "finetune.dev/config": "{}"},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": of, "controller": True}],
    }
    state, sidecar = status.pop("state", None), status.pop("sidecar", None)
    # A mesh's container may well come first.
    containers = [{"name": "agent", "imageID": "mesh@sha256:1", "state": sidecar}] if sidecar else []
    containers += [{"name": "trainer", "imageID": "", "state": state}] if state else []
    return Pod.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "" if conditions and conditions[0]["type"] == "PodScheduled" else "node-1",
                "containers": [
                    {"name": "agent", "image": "mesh:1"},
                    {"name": "trainer", "image": "registry.example/trainer:1"},
                ],
            },
            "status": {
                "phase": "Running",
                "startTime": ago(age - 1),
                "conditions": conditions,
                "containerStatuses": containers,
                **status,
            },
        }
    )


def ended(name: str = "p1", code: int = 0, message: str = "", reason: str = "", **more: Any) -> Pod:
    """A pod whose container has ended. With a sidecar that runs, the pod itself has not."""
    at = more.pop("finished", NOW)
    terminated = {"exitCode": code, "message": message, "reason": reason, "finishedAt": format_time(at)}
    by_kubelet = dict(zip(("reason", "message"), more.pop("note", ()), strict=False))
    phase = "Running" if more.get("sidecar") else "Failed" if code else "Succeeded"
    return pod(name, **{"phase": phase, "state": {"terminated": terminated}, **by_kubelet, **more})


def refused(name: str, reason: str, words: str = "", **more: Any) -> Pod:
    """A pod that its node did not admit: no container of it has a status."""
    return pod(name, phase="Failed", reason=reason, message=words, startTime=None, **more)


def message(stage: str, uid: str = UID, of: JobObject | None = None, **sections: Any) -> str:
    """A termination message of the job's spec, or of that of another than ``job()``."""
    spec = (of or job()).spec
    assert spec is not None
    head = {"version": 1, "stage": stage, "jobUID": uid, "finishedAt": format_time(NOW)}
    digests = {"trainingSha256": spec.training_sha256, "evaluationSha256": spec.evaluation_sha256}
    return canonical_json(head | digests | sections)


def trained(uid: str = UID, **more: Any) -> str:
    """A trainer's result."""
    return message("Train", uid, training=TRAINING, adapter=ADAPTER, **more)


def trained_by(of: JobObject) -> str:
    """A trainer's result of another job than ``job()``."""
    return message("Train", of=of, training=TRAINING, adapter=ADAPTER)


def trained_whole(of: JobObject, **more: Any) -> str:
    """A trainer's result of a Full job."""
    return message("Train", of=of, training=TRAINING, model=MODEL, **more)


def decide(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> Step:
    """One question to the plan."""
    jobs = [one for one in children if isinstance(one, Job)]
    pods = [one for one in children if isinstance(one, Pod)]
    return plan(subject, observe(subject, jobs, pods), facts, now)


def settled(subject: JobObject, *children: Job | Pod, facts: Facts = READY, now: datetime = NOW) -> FineTuneJobStatus:
    """The status that the plan settles on, or wants written before it goes on."""
    step = decide(subject, *children, facts=facts, now=now)
    assert isinstance(step, Settle | Write), step
    return step.status


def verdict(status: FineTuneJobStatus) -> tuple[str, str]:
    """Status and reason of Succeeded."""
    found = status.condition("Succeeded")
    assert found is not None
    return found.status, found.reason


def after_training() -> FineTuneJobStatus:
    """The status once training is recorded."""
    return settled(job(), child(type="Complete"), ended(message=trained()))


def ago(seconds: float) -> str:
    return format_time(NOW - timedelta(seconds=seconds))


def words(status: FineTuneJobStatus) -> str:
    """The message of Succeeded."""
    found = status.condition("Succeeded")
    assert found is not None
    return found.message
