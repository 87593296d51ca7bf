"""What the watches have told, kept by job: filled from events, swept against lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from finetune_api.names import JOB_LABEL
from finetune_operator.finetunejob.job_object import Key
from finetune_operator.workload.objects import Job, Metadata, Pod

Object = dict[str, Any]
News = tuple[Key, bool]  # whose it is, and whether it changed anything


@dataclass
class Entry:
    """One FineTuneJob and its children, by UID."""

    raw: Object | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # UIDs of deleted pods, kept until a pass has seen their last state

    def uids(self) -> set[str]:
        """UIDs of the job and of its children."""
        return {*self.jobs, *self.pods, *([self.raw["metadata"]["uid"]] if self.raw else [])}


class Cache:
    """Everything that is watched, small: children as models, and none that ended once their job is finished."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._removed: set[str] | None = None  # UIDs that went while lists are read; None at other times

    def __len__(self) -> int:
        return len(self._entries)

    def raw(self, key: Key) -> Object | None:
        """The FineTuneJob as the API server sent it."""
        return self._peek(key).raw

    def keys(self, namespace: str) -> list[Key]:
        """Of what is kept of a namespace."""
        return [key for key in self._entries if key[0] == namespace]

    def jobs(self, key: Key) -> list[Job]:
        """Jobs that carry this job's label, whoever owns them."""
        return list(self._peek(key).jobs.values())

    def pods(self, key: Key) -> list[Pod]:
        """Pods that carry this job's label, whoever owns them; also such as were deleted since the last pass."""
        return list(self._peek(key).pods.values())

    def uids(self) -> set[str]:
        """UIDs of everything that is kept."""
        return {uid for entry in self._entries.values() for uid in entry.uids()}

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While lists are read: what is removed in this block can't come back from a list that is older than that."""
        self._removed = set()
        try:
            yield
        finally:
            self._removed = None

    def put(self, raw: Object) -> News:
        """Keeps a FineTuneJob unless this version of the object, or a newer one, is there."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        if self._is_removed(raw):
            return key, False
        entry = self._entry(key)
        if entry.raw is not None and not _newer(raw["metadata"], entry.raw["metadata"]):
            return key, False
        entry.raw = _trimmed(raw)
        return key, True

    def remove(self, raw: Object) -> News:
        """Forgets a FineTuneJob, unless a namesake has taken its place already."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        entry = self._entry(key)
        if entry.raw and entry.raw["metadata"]["uid"] == raw["metadata"]["uid"]:
            entry.raw = None
        self._remember_removal(raw)
        self._drop_if_empty(key)
        return key, True

    def put_job(self, raw: Object) -> News:
        """Keeps a Job unless this version, or a newer one, is there."""
        job = Job.model_validate(raw)
        key = _key(job.metadata)
        if self._is_removed(raw):
            return key, False
        jobs = self._entry(key).jobs
        if not _is_news(job, jobs.get(job.metadata.uid)):
            return key, False
        jobs[job.metadata.uid] = job
        return key, True

    def remove_job(self, raw: Object) -> News:
        """Forgets a Job."""
        job = Job.model_validate(raw)
        key = _key(job.metadata)
        self._entry(key).jobs.pop(job.metadata.uid, None)
        self._remember_removal(raw)
        self._drop_if_empty(key)
        return key, True

    def put_pod(self, raw: Object) -> News:
        """Keeps a pod unless this version, or a newer one, is there."""
        pod = Pod.model_validate(raw)
        key = _key(pod.metadata)
        if self._is_removed(raw):
            return key, False
        pods = self._entry(key).pods
        if not _is_news(pod, pods.get(pod.metadata.uid)):
            return key, False
        pods[pod.metadata.uid] = pod
        return key, True

    def remove_pod(self, raw: Object) -> News:
        """Keeps the last state of a deleted pod until :meth:`seen`: it may hold the result."""
        key, _ = self.put_pod(raw)
        self._entry(key).gone.add(raw["metadata"]["uid"])
        self._remember_removal(raw)
        return key, True

    def seen(self, key: Key, pods: Iterable[Pod], finished: bool) -> None:
        """After a pass over these ``pods``: drops the deleted of them, and what has ended of a finished job.

        A deleted pod whose last state came while the pass wrote is kept for the next one.
        """
        entry = self._entry(key)
        dropped = {pod.metadata.uid for pod in pods if entry.pods.get(pod.metadata.uid) is pod} & entry.gone
        entry.pods = {uid: pod for uid, pod in entry.pods.items() if uid not in dropped}
        entry.gone -= dropped
        if finished:
            entry.jobs = {uid: job for uid, job in entry.jobs.items() if not job.finished}
            entry.pods = {uid: pod for uid, pod in entry.pods.items() if not pod.ended}
            entry.gone &= entry.pods.keys()
        self._drop_if_empty(key)

    def sweep(self, known: set[str], listed: set[str]) -> set[Key]:
        """Forgets what was ``known`` before the lists and is not in them. Returns the keys that lost something."""
        keys = set()
        for key, entry in list(self._entries.items()):
            missing = entry.uids() & (known - listed)
            if not missing:
                continue
            entry.jobs = {uid: job for uid, job in entry.jobs.items() if uid not in missing}
            entry.gone |= missing & entry.pods.keys()
            if entry.raw and entry.raw["metadata"]["uid"] in missing:
                entry.raw = None
            keys.add(key)
            self._drop_if_empty(key)
        return keys

    def _is_removed(self, raw: Object) -> bool:
        return self._removed is not None and raw["metadata"]["uid"] in self._removed

    def _remember_removal(self, raw: Object) -> None:
        if self._removed is not None:
            self._removed.add(raw["metadata"]["uid"])

    def _peek(self, key: Key) -> Entry:
        return self._entries.get(key) or Entry()

    def _entry(self, key: Key) -> Entry:
        return self._entries.setdefault(key, Entry())

    def _drop_if_empty(self, key: Key) -> None:
        entry = self._peek(key)
        if entry.raw is None and not entry.jobs and not entry.pods:
            self._entries.pop(key, None)


def _key(metadata: Metadata) -> Key:
    return metadata.namespace, metadata.labels.get(JOB_LABEL, "")


def _is_news(child: Job | Pod, known: Job | Pod | None) -> bool:
    return known is None or _version(child.metadata.resource_version) > _version(known.metadata.resource_version)


def _newer(metadata: Object, known: Object) -> bool:
    """Whether this is a later version, or a later object of the same name."""
    return _version(metadata.get("resourceVersion", "")) > _version(known.get("resourceVersion", ""))


def _version(text: str) -> int:
    """Resource versions of one kind compare as numbers (KEP-5504); anything else counts as oldest."""
    return int(text) if text.isdigit() else -1


def _trimmed(raw: Object) -> Object:
    """Without managedFields, which are most of the object; an update that lacks them keeps them."""
    return {**raw, "metadata": {name: value for name, value in raw["metadata"].items() if name != "managedFields"}}
