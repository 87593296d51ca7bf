"""One pass over one job: observe, plan, act, until the plan settles; then one guarded status write and its Events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from finetune_api.names import API_VERSION, KIND
from finetune_operator.finetunejob.events import announcements
from finetune_operator.finetunejob.job_object import JobObject, Key, read_job
from finetune_operator.finetunejob.observed import Observed, observe
from finetune_operator.finetunejob.output_folder import occupant
from finetune_operator.finetunejob.plan import plan
from finetune_operator.finetunejob.steps import CreateConfig, CreateJob, DeleteJob, Facts, LookUp, Need, Settle, Setup
from finetune_operator.runtime.client import ApiError
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Cache
from finetune_operator.settings import Settings
from finetune_operator.workload.job import claims, config_map, stage_job
from finetune_operator.workload.objects import Metadata, Pod
from finetune_operator.workload.profile import config_map_name as profile_config_map
from finetune_operator.workload.profile import parse_profile
from finetune_operator.workload.refusal import is_the_users

log = logging.getLogger(__name__)

GATEWAY_CA_CONFIG_MAP = "finetune-gateway-ca"
# A pass that does not settle in so many steps is a mistake of ours, not of the cluster.
MAX_STEPS = 12
# The API server's refusals that a user or an administrator can mend; the rest is retried with back-off.
_REFUSALS = frozenset({400, 403, 422})
_AGAIN = 1.0


class Unsettled(Exception):
    """A pass went on and on."""


@dataclass
class Pass:
    """A pass in progress."""

    key: Key
    raw: dict[str, Any]
    facts: Facts
    fresh: bool = False  # raw was read live after the last act
    pods: list[Pod] = field(default_factory=list)  # those that the plan was made from


class Reconciler:
    """Brings one job's world to what its spec asks for. Safe to run twice, late, or after a crash at any line."""

    def __init__(self, kube: Kube, cache: Cache, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._cache = cache
        self._settings = settings
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns in how many seconds to come back though nothing changes; None: not before a change."""
        raw = self._cache.raw(key)
        if raw is None:
            self._cache.seen(key, self._cache.pods(key), finished=False)
            return None
        this = Pass(key, raw, Facts())
        for _ in range(MAX_STEPS):
            job = read_job(this.raw)
            this.pods = self._cache.pods(key)
            observed = observe(job, self._cache.jobs(key), this.pods)
            step = plan(job, observed, this.facts, self._clock())
            match step:
                case Settle():
                    return await self._settle(this, job, step)
                case DeleteJob():
                    log.info("%s/%s: deletes Job %s: %s", *key, step.name, step.why)
                    await self._kube.delete_child_job(key[0], step.name, step.uid)
                    return _AGAIN
                case LookUp():
                    this.facts = await self._look_up(this, job, observed, step)
                case CreateConfig() | CreateJob():
                    if not this.fresh:
                        if not await self._refresh(this):
                            return None
                        # Another job may have come meanwhile: nothing is awaited between this look and the create.
                        this.facts = replace(this.facts, occupied=None)
                        continue
                    await self._create(this, job, step)
                    this.fresh = False
        raise Unsettled(f"{key[0]}/{key[1]} did not settle in {MAX_STEPS} steps")

    async def _refresh(self, this: Pass) -> bool:
        """Reads the job live before anything is created for it: a cached one may be deleted by now."""
        live = await self._kube.get_job(*this.key)
        if live is None:
            self._cache.remove(this.raw)
            return False
        self._cache.put(live)
        this.raw, this.fresh = live, True
        return True

    async def _look_up(self, this: Pass, job: JobObject, observed: Observed, step: LookUp) -> Facts:
        namespace, name = this.key
        match step.need:
            case Need.SETUP:
                return replace(this.facts, setup=await self._setup(job))
            case Need.PODS:
                for pod in await self._kube.list_child_pods(namespace, name):
                    self._cache.put_pod(pod)
                return replace(this.facts, pods_listed=True)
            case Need.CLAIMS:
                wanted = claims(job.spec) if job.spec else []
                missing = [claim for claim in wanted if not await self._kube.claim_exists(namespace, claim)]
                return replace(this.facts, missing_claims=tuple(missing))
            case Need.REJECTION:
                active = observed.evaluate.job or observed.train.job
                rejection = await self._kube.rejection_of(namespace, active.uid, step.since) if active else ""
                return replace(this.facts, rejection=rejection)
            case Need.FOLDER:
                return replace(this.facts, occupied=self._occupant(this.key, job))

    def _occupant(self, key: Key, job: JobObject) -> str:
        others = [one for one in self._cache.keys(key[0]) if one != key]
        found = ((self._cache.raw(one), bool(self._cache.jobs(one))) for one in others)
        return occupant(job, bool(self._cache.jobs(key)), ((raw, has_job) for raw, has_job in found if raw))

    async def _setup(self, job: JobObject) -> Setup:
        namespace = self._settings.operator_namespace
        name = job.spec.runtime.profile if job.spec else ""
        found = await self._kube.get_config_map(namespace, profile_config_map(name))
        profile = parse_profile(name, namespace, (found.get("data") or {}) if found else None)
        if not self._settings.gateway_url:
            return Setup(profile)
        authority = await self._kube.get_config_map(namespace, GATEWAY_CA_CONFIG_MAP)
        ca = ((authority or {}).get("data") or {}).get("ca.crt", "")
        return Setup(profile, self._settings.gateway_url, ca)

    async def _create(self, this: Pass, job: JobObject, step: CreateConfig | CreateJob) -> None:
        manifest = config_map(step.order) if isinstance(step, CreateConfig) else stage_job(step.order, step.stage)
        what = f"{manifest['kind']} {manifest['metadata']['name']}"
        try:
            made = await self._kube.create(manifest)
            log.info("%s/%s: created %s", *this.key, what)
        except ApiError as error:
            if error.status in _REFUSALS:
                log.warning("%s/%s: %s refused: %s", *this.key, what, error.message)
                words = f"{what} was refused: {error.message}"
                if error.status == 422 and is_the_users(error.fields, step.order):
                    this.facts = replace(this.facts, invalid=words)
                else:
                    this.facts = replace(this.facts, refusal=words)
                return
            if error.reason != "AlreadyExists":
                raise
            held = await self._kube.get(manifest)
            if held is None:
                raise
            made = held
            if not self._is_ours(this, job, made, what):
                return
        if isinstance(step, CreateConfig):
            if step.order.gateway is None and self._settings.gateway_url:
                log.warning("%s/%s: runs without live progress: the gateway has no certificate yet", *this.key)
            this.facts = replace(this.facts, config_ready=True)
        else:
            self._cache.put_job(made)

    def _is_ours(self, this: Pass, job: JobObject, held: dict[str, Any], what: str) -> bool:
        """Judges an object that holds a child's name by its controller."""
        owner = Metadata.model_validate(held["metadata"]).controller
        if owner and owner.uid == job.metadata.uid:
            return True
        namesake = owner and (owner.api_version, owner.kind, owner.name) == (API_VERSION, KIND, job.metadata.name)
        if namesake:
            this.facts = replace(this.facts, stale=what)
        else:
            holder = f"{owner.kind} {owner.name}" if owner else "nobody"
            this.facts = replace(this.facts, conflict=f"{what} exists already and is controlled by {holder}")
        return False

    async def _settle(self, this: Pass, job: JobObject, step: Settle) -> float | None:
        """The pass's one status write, guarded by the resourceVersion that the plan was made from."""
        before, after = job.status, step.status
        finished = replace(job, status=after).finished
        if before.to_api() != after.to_api():
            try:
                written = await self._kube.replace_status({**this.raw, "status": after.to_api()})
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                await self._refresh(this)  # somebody was faster: the next pass starts from what they wrote
                return 0.0
            self._cache.put(written)
            log.info("%s/%s: %s", *this.key, _line(replace(job, status=after)))
            for announcement in announcements(before, after):
                await self._announce(job, announcement)
        self._cache.seen(this.key, this.pods, finished)
        return step.revisit

    async def _announce(self, job: JobObject, announcement: Any) -> None:
        """Events are for people; a lost one must not cost the pass."""
        try:
            await self._kube.announce(job.metadata, announcement, self._clock())
        except ApiError as error:
            log.warning("%s/%s: Event refused: %s", job.metadata.namespace, job.metadata.name, error.message)


def _line(job: JobObject) -> str:
    verdict = job.status.condition("Succeeded")
    return f"{job.status.stage}: {verdict.reason}: {verdict.message}" if verdict else str(job.status.stage)
