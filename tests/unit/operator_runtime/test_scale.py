"""Ten thousand FineTuneJobs with one destination: what starting one more looks at, and what finished ones leave."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.finetunejob.kinds import CONFIG_MAP, FINETUNEJOB, FOLDER, JOB, POD, ConfigMap
from finetune_operator.finetunejob.reconcile import Reconciler
from finetune_operator.runtime.events import Recorder
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import Key, Object, Resource
from finetune_operator.runtime.store import Store
from finetune_operator.settings import Settings
from operator_jobs import job

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
STORED = 10_000


def raw(number: int, **status: Any) -> Object:
    """A stored FineTuneJob that trains what no other trains, and writes to the one destination."""
    made = copy.deepcopy(TEMPLATE)
    made["metadata"] |= {
        "name": f"job-{number}",
        "uid": f"uid-{number}",
        "resourceVersion": str(number),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    made["spec"]["training"] = {"seed": number}
    return made | ({"status": status} if status else {})


TEMPLATE = job("job", "ml", evaluated=False)
TEMPLATE["spec"]["output"]["destination"] = "pvc://models/runs"
SUCCEEDED = {
    "observedGeneration": 1,
    "stage": "Succeeded",
    "conditions": [
        {"type": kind, "status": "True", "reason": "Succeeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("Succeeded", "Finished", "Trained")
    ],
}


class Answering(Kube):
    """An API server that takes what it is given."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self._versions = itertools.count(10 * STORED)
        self._objects: dict[str, Object] = {}

    def holds(self, item: Object) -> Object:
        """An object as it is served."""
        self._objects[item["metadata"]["name"]] = item
        return item

    async def create(self, resource: Resource, manifest: Object) -> Object:
        self.created.append(manifest["metadata"]["name"])
        meta = manifest["metadata"] | {
            "uid": manifest["metadata"]["name"],
            "resourceVersion": str(next(self._versions)),
        }
        return manifest | {"metadata": meta}

    async def replace_status(self, resource: Resource, item: Object) -> Object:
        held = self._objects[item["metadata"]["name"]]
        meta = held["metadata"] | {"resourceVersion": str(next(self._versions))}
        return self.holds(held | {"metadata": meta, "status": item["status"]})


class Visits:
    """Counts what is read, and each entry that is looked up in a store or iterated over."""

    def __init__(self) -> None:
        self.read = 0
        self.looked_up = 0

    def parse(self, item: Object, before: JobObject | None) -> JobObject:
        self.read += 1
        return read_job(item, before)

    def watch(self, store: Store[JobObject]) -> None:
        """Counts from now on."""
        visits = self

        class Entries(dict[Key, Any]):
            def __getitem__(self, key: Key) -> Any:
                visits.looked_up += 1
                return super().__getitem__(key)

            def get(self, key: Key, default: Any = None) -> Any:
                visits.looked_up += 1
                return super().get(key, default)

            def _all(self) -> None:
                visits.looked_up += len(self)

            def __iter__(self) -> Any:
                self._all()
                return super().__iter__()

            def keys(self) -> Any:
                self._all()
                return super().keys()

            def values(self) -> Any:
                self._all()
                return super().values()

            def items(self) -> Any:
                self._all()
                return super().items()

        store._entries = Entries(store._entries)
        self.read = 0


@pytest.mark.parametrize("others", [10, STORED])
async def test_starting_a_job_looks_at_no_more_when_ten_thousand_others_write_to_its_destination(others: int) -> None:
    visits, kube = Visits(), Answering()
    store: Store[JobObject] = Store(dataclasses.replace(FINETUNEJOB, parse=visits.parse), (JOB, POD))
    config_maps: Store[ConfigMap] = Store(CONFIG_MAP)
    profile = {"namespace": "system", "name": "finetune-profile-default", "uid": "p", "resourceVersion": "1"}
    config_maps.put({"metadata": profile, "data": {"profile.yaml": "image: registry.example/trainer:1"}})
    for number in range(others):
        store.put(raw(number))
    visits.watch(store)
    recorder = Recorder(kube, "finetune-operator", "test", lambda: NOW)
    settings = Settings(operator_namespace="system")
    reconciler = Reconciler(kube, store, config_maps, recorder, settings, lambda: NOW)
    store.put(kube.holds(raw(others)))
    await reconciler.reconcile(("ml", f"job-{others}"))
    assert kube.created == [f"job-{others}-train"]
    assert visits.read <= 3  # as it came, and after each of two writes
    assert visits.looked_up <= 40


def test_a_finished_job_leaves_less_than_a_kilobyte() -> None:
    store: Store[JobObject] = Store(FINETUNEJOB, (JOB, POD))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(1000):
        store.put(raw(number))
        store.put(raw(number, **SUCCEEDED) | {"metadata": raw(number)["metadata"] | {"resourceVersion": "99999"}})
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == 1000
    assert (after - before) / 1000 < 1024


def test_progress_alone_wakes_no_pass_and_a_changed_stage_does() -> None:
    woken: list[Key] = []
    store: Store[JobObject] = Store(FINETUNEJOB, (JOB, POD), woken.append)
    store.put(raw(1, stage="Training"))
    progress = {"stage": "Train", "step": 3, "lastUpdatedTime": "2026-01-01T00:00:00Z"}
    for version, status in ((2, {"progress": progress}), (3, {"progress": progress | {"step": 9}}), (4, {})):
        changed = raw(1, stage="Training", **status)
        changed["metadata"]["resourceVersion"] = str(version)
        store.put(changed)
    assert len(woken) == 1
    ended = raw(1, stage="Failed")
    ended["metadata"]["resourceVersion"] = "5"
    store.put(ended)
    assert len(woken) == 2


def test_a_job_stands_in_its_folder_until_it_has_finished() -> None:
    store: Store[JobObject] = Store(FINETUNEJOB, (JOB, POD))
    store.put(raw(1))
    found = store.owner(("ml", "job-1"))
    assert found is not None
    assert found.spec is not None
    place = ("ml", found.spec.folder)
    assert store.find(FOLDER, place) == [("ml", "job-1")]
    labels = {"finetune.dev/job": "job-1"}
    child = {"name": "j", "namespace": "ml", "uid": "j", "resourceVersion": "1", "labels": labels}
    store.put_child(JOB, {"metadata": child, "status": {}})
    done = raw(1, **SUCCEEDED)
    done["metadata"]["resourceVersion"] = "2"
    store.put(done)
    assert store.owner(("ml", "job-1")) is not None  # its Job has not ended yet
    assert store.find(FOLDER, place) == []
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    store.put_child(JOB, {"metadata": child | {"resourceVersion": "2"}, "status": ended})
    assert store.settled(("ml", "job-1"))
