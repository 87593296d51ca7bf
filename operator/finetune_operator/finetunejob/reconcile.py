"""One pass over one job: observe, plan, act, until the plan settles; then its status write and its Events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from finetune_api.base import one_line
from finetune_api.names import API_VERSION, KIND
from finetune_api.reasons import Reason
from finetune_api.results import MAX_MESSAGE
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.events import announcements
from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.finetunejob.kinds import FINETUNEJOB, JOB, POD, ConfigMap
from finetune_operator.finetunejob.look_ups import LookUps
from finetune_operator.finetunejob.observed import observe
from finetune_operator.finetunejob.plan import in_trouble, plan
from finetune_operator.finetunejob.steps import CreateJob, DeleteJob, Facts, LookUp, Said, Settle, Write
from finetune_operator.runtime.client import API_ERRORS, ApiError, describe
from finetune_operator.runtime.events import Announcement, Recorder, Reference
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import Key, Object
from finetune_operator.runtime.store import Store
from finetune_operator.settings import Settings
from finetune_operator.workload.job import build
from finetune_operator.workload.objects import Metadata, Pod
from finetune_operator.workload.refusal import fills_the_annotations, is_the_users

log = logging.getLogger(__name__)

# A pass that does not settle in so many steps is a mistake of ours, not of the cluster.
MAX_STEPS = 16
# The API server's refusals that a user or an administrator can mend; at what else it answers, it failed.
_REFUSALS = frozenset({400, 403, 404, 405, 406, 413, 415, 422})
_AGAIN = 1.0
# Whoever loses so often in a row waits: a gateway writes far less often than that.
MAX_BEATEN = 10


class Unsettled(Exception):
    """A pass went on and on."""


@dataclass
class Pass:
    """A pass in progress, over one object: with another UID, another pass begins."""

    key: Key
    job: JobObject
    facts: Facts = field(default_factory=Facts)
    fresh: bool = False  # the job is what the API server had after the last act
    pods: list[Pod] = field(default_factory=list)  # those that the plan was made from
    trouble: Exception | None = None  # to be raised once status tells of it, so that the queue backs off


class Reconciler:
    """Brings one job's world to what its spec asks for. Safe to run twice, late, or after a crash at any line."""

    def __init__(
        self,
        kube: Kube,
        store: Store[JobObject],
        config_maps: Store[ConfigMap],
        recorder: Recorder,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._store = store
        self._look_ups = LookUps(kube, store, config_maps, settings, clock)
        self._recorder = recorder
        self._settings = settings
        self._clock = clock
        self._starting: set[Key] = set()  # whose Job is being, or may have been, created: no watch tells of it yet
        self._beaten: dict[Key, int] = {}  # whose last status writes came too late, and how many in a row

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns in how many seconds to come back though nothing changes; None: not before a change.

        Raises one of API_ERRORS for what the API server refuses, fails at or does not answer, once status says so.
        """
        job = self._store.owner(key)
        if job is None and self._store.settled(key):  # a child of it lives, though nothing should
            await self._look(key)
            job = self._store.owner(key)
        if job is None:
            self._store.seen(key, self._store.children(POD, key))
            self._starting.discard(key)
            self._beaten.pop(key, None)
            return None
        this = Pass(key, job)
        try:
            return await self._steps(this)
        except (*API_ERRORS, Unsettled) as error:
            beaten = isinstance(error, ApiError) and error.status == 409
            if error is not this.trouble and not beaten:
                await self._tell(this, error)
            raise

    async def _steps(self, this: Pass) -> float | None:
        for _ in range(MAX_STEPS):
            this.pods = self._store.children(POD, this.key)
            observed = observe(this.job, self._store.children(JOB, this.key), this.pods)
            step = plan(this.job, observed, this.facts, self._clock())
            match step:
                case Settle():
                    return await self._settle(this, step)
                case Write():
                    if not await self._write(this, step.status):
                        return 0.0
                    this.facts = replace(this.facts, occupied=None)
                case DeleteJob():
                    log.info("%s/%s: deletes Job %s: %s", *this.key, step.name, step.why)
                    if not await self._kube.delete(JOB.resource, this.key[0], step.name, step.uid):
                        self._store.drop_child(JOB, this.key, step.uid)
                    return _AGAIN
                case LookUp():
                    this.facts = await self._look_ups.answer(this.key, this.job, this.facts, step, self._starting)
                case CreateJob():
                    if not this.fresh:
                        if not await self._refresh(this):
                            return 0.0
                        # Another job may have come meanwhile: nothing is awaited between this look and the create.
                        this.facts = replace(this.facts, occupied=None)
                        continue
                    await self._create(this, step)
        raise Unsettled(f"{this.key[0]}/{this.key[1]} did not settle in {MAX_STEPS} steps")

    async def _look(self, key: Key) -> Object | None:
        """Reads a job live. What is gone is forgotten."""
        live = await self._kube.get(FINETUNEJOB.resource, *key)
        if live is not None:
            self._store.put(live, live=True)
        return live

    async def _refresh(self, this: Pass) -> bool:
        """Reads the job live before anything is created for it: a stored one may be deleted by now.

        False when it is gone, or another object has its name: what this pass knows is of the old one.
        """
        live = await self._look(this.key)
        if live is None:
            meta = this.job.metadata
            self._store.remove({"metadata": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid}})
            return False
        if live["metadata"]["uid"] != this.job.metadata.uid:
            return False
        this.job, this.fresh = read_job(live, this.job), True
        return True

    async def _create(self, this: Pass, step: CreateJob) -> None:
        manifest = build(step.order, step.stage, step.crashes)
        what = f"Job {manifest['metadata']['name']}"
        this.fresh = False
        if step.order.gateway is None and self._settings.gateway_url:
            log.warning("%s/%s: runs without live progress: the gateway has no certificate yet", *this.key)
        self._starting.add(this.key)
        clear = False
        try:
            self._store.put_child(JOB, await self._kube.create(JOB.resource, manifest), live=True)
            log.info("%s/%s: created %s", *this.key, what)
            clear = True
        except API_ERRORS as error:
            if isinstance(error, ApiError) and error.reason == "AlreadyExists":
                await self._take_what_is_there(this, manifest, error)
                clear = True
            else:
                self._refused(this, step, error, what)
                clear = isinstance(error, ApiError) and error.status < 500
        finally:
            # Without a clear answer the Job may be there: whoever waits for the folder goes on waiting.
            if clear:
                self._starting.discard(this.key)

    def _refused(self, this: Pass, step: CreateJob, error: Exception, what: str) -> None:
        """Has the plan tell the API server's words; it goes on being asked unless the spec itself is wrong."""
        answer = error if isinstance(error, ApiError) else None
        refused = answer is not None and answer.status in _REFUSALS
        said = answer.message if answer else describe(error)
        words = f"{what} was refused: {said}" if refused else f"{what} can't be created: {said}"
        log.warning("%s/%s: %s", *this.key, words)
        if answer and answer.status == 422 and is_the_users(answer.fields, step.order):
            hint = "; shorten the spec's templates" if fills_the_annotations(step.order) else ""
            this.facts = replace(this.facts, invalid=words + hint)
            return
        this.trouble = error
        reason = Reason.POD_REJECTED if refused else Reason.API_ERROR
        this.facts = replace(this.facts, trouble=Said(reason, words))

    async def _take_what_is_there(self, this: Pass, manifest: Object, error: ApiError) -> None:
        """Judges the Job that holds the name by its controller."""
        held = await self._kube.get(JOB.resource, this.key[0], manifest["metadata"]["name"])
        if held is None:  # gone meanwhile: the next step creates it
            return
        what, meta = f"Job {manifest['metadata']['name']}", Metadata.model_validate(held["metadata"])
        owner, labels = meta.controller, manifest["metadata"]["labels"]
        if owner and owner.uid == this.job.metadata.uid:
            if labels.items() <= meta.labels.items():
                self._store.put_child(JOB, held, live=True)
                return
            # No watch tells of it, nor would a pass find it.
            missing = ", ".join(f"{name}={value}" for name, value in labels.items() if meta.labels.get(name) != value)
            words = f"{what} has lost labels of its own: put back {missing}, or delete it"
            this.trouble, this.facts = error, replace(this.facts, trouble=Said(Reason.API_ERROR, words))
        elif owner and (owner.api_version, owner.kind, owner.name) == (API_VERSION, KIND, this.job.metadata.name):
            this.facts = replace(this.facts, stale=what)
        else:
            holder = f"{owner.kind} {owner.name}" if owner else "nobody"
            this.facts = replace(this.facts, conflict=f"{what} exists already and is controlled by {holder}")

    async def _settle(self, this: Pass, step: Settle) -> float | None:
        if worth_writing(this.job.status, step.status) and not await self._write(this, step.status):
            return 0.0
        self._store.seen(this.key, this.pods)
        if this.trouble:
            raise this.trouble
        return step.revisit

    async def _tell(self, this: Pass, error: Exception) -> None:
        """Says in status what the API server fails at; in an Event, if it refuses that status."""
        said = f"{error.status} {error.message}" if isinstance(error, ApiError) else describe(error)
        words = f"the API server does not do what the job needs: {said}"
        status = in_trouble(this.job, Reason.API_ERROR, words, self._clock())
        try:
            if worth_writing(this.job.status, status):
                await self._write(this, status)
        except API_ERRORS as again:
            log.warning("%s/%s: status can't be written: %s", *this.key, describe(again))
            if isinstance(again, ApiError) and again.status in _REFUSALS:
                text = one_line(f"status can't be written: {again.message}", MAX_MESSAGE)
                await self._recorder.record(_about(this.job), Announcement("Warning", Reason.API_ERROR, text))

    async def _write(self, this: Pass, status: FineTuneJobStatus) -> bool:
        """One status write, guarded by UID and resourceVersion. False when somebody was faster.

        The next pass then starts from what they wrote. Raises ApiError when again nobody was, or somebody always is.
        """
        before, meta = this.job, this.job.metadata
        written: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "status": status.to_api(),
        }
        try:
            answer = await self._kube.replace_status(FINETUNEJOB.resource, written)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            beaten = self._beaten[this.key] = self._beaten.get(this.key, 0) + 1
            there = await self._refresh(this)
            alone = this.job.metadata.resource_version == meta.resource_version
            if beaten >= MAX_BEATEN:  # after the back-off it may try as often again
                self._beaten.pop(this.key, None)
            if there and ((beaten > 1 and alone) or beaten >= MAX_BEATEN):
                raise
            return False
        self._beaten.pop(this.key, None)
        self._store.put(answer, live=True)
        this.job, this.fresh = self._store.owner(this.key) or read_job(answer, before), True
        verdict = status.condition("Succeeded")
        log.info("%s/%s: %s", *this.key, f"{status.stage}: {verdict.reason}: {verdict.message}" if verdict else "")
        for announcement in announcements(before.status, status):
            await self._recorder.record(_about(before), announcement)
        return True


def _about(job: JobObject) -> Reference:
    return Reference(API_VERSION, KIND, job.metadata.namespace, job.metadata.name, job.metadata.uid)


def worth_writing(before: FineTuneJobStatus, after: FineTuneJobStatus) -> bool:
    """Whether two statuses differ in more than the UID of a Job of which no pod has run: that can wait for the pod."""
    return _without_idle_jobs(before) != _without_idle_jobs(after)


def _without_idle_jobs(status: FineTuneJobStatus) -> dict[str, Any]:
    told = status.to_api()
    ran = {one.job_uid for one in status.attempts}
    stages = [
        {name: value for name, value in stage.items() if name != "jobUID" or value in ran}
        for stage in told.get("stages", [])
    ]
    stages = [stage for stage in stages if stage.get("attempts") or stage.get("completionTime")]
    return {**told, "stages": stages}
