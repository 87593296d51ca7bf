"""Answers to what a plan asks for beside its job's own children: from the stores at once, from the API server live."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace
from datetime import datetime

from finetune_api.names import CA_FILE, GATEWAY_CA_CONFIG_MAP, JOB_LABEL
from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.kinds import FOLDER, JOB, POD, ConfigMap
from finetune_operator.finetunejob.output_folder import occupant
from finetune_operator.finetunejob.steps import Facts, LookUp, Need, Said, Setup
from finetune_operator.runtime.events import Warnings
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import CLAIMS, Key
from finetune_operator.runtime.store import Store
from finetune_operator.settings import Settings
from finetune_operator.workload.objects import Job
from finetune_operator.workload.order import claims
from finetune_operator.workload.profile import config_map_name, parse_profile


class LookUps:
    """Where a pass looks things up."""

    def __init__(
        self,
        kube: Kube,
        store: Store[JobObject],
        config_maps: Store[ConfigMap],
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._store = store
        self._config_maps = config_maps
        self._settings = settings
        self._warnings = Warnings(kube, clock)

    async def answer(self, key: Key, job: JobObject, facts: Facts, step: LookUp, starting: Set[Key]) -> Facts:
        """The facts with one more answer. ``starting`` are those whose Job is being created, which no watch tells yet.

        Setup and Folder are answered without waiting for anything. Raises ApiError.
        """
        namespace, name = key
        match step.need:
            case Need.SETUP:
                return replace(facts, setup=self._setup(job))
            case Need.FOLDER:
                return replace(facts, occupied=self._occupant(key, job, starting))
            case Need.PODS:
                for pod in await self._kube.list(POD.resource, namespace, labels=f"{JOB_LABEL}={name}"):
                    self._store.put_child(POD, pod, live=True)
                return replace(facts, pods_listed=True)
            case Need.CLAIMS:
                wanted = claims(job.spec.resolved) if job.spec else []
                missing = [claim for claim in wanted if not await self._kube.get(CLAIMS, namespace, claim)]
                return replace(facts, missing_claims=tuple(missing))
            case Need.WARNINGS:
                found = await self._warnings.about(namespace, step.about, step.since)
                return replace(facts, warnings=tuple(Said(one.reason, one.message) for one in found))

    def _setup(self, job: JobObject) -> Setup:
        namespace = self._settings.operator_namespace
        name = job.spec.resolved.runtime.profile if job.spec else ""
        found = self._config_maps.owner((namespace, config_map_name(name)))
        profile = (found and found.profile) or parse_profile(name, namespace, None)
        if not self._settings.gateway_url:
            return Setup(profile)
        authority = self._config_maps.owner((namespace, GATEWAY_CA_CONFIG_MAP))
        return Setup(profile, self._settings.gateway_url, authority.data.get(CA_FILE, "") if authority else "")

    def _occupant(self, key: Key, job: JobObject, starting: Set[Key]) -> str:
        if job.spec is None:
            return ""

        def started(one: Key) -> bool:
            return one in starting or bool(self._store.children(JOB, one))

        place = (key[0], job.spec.folder)
        jobs = ((other, self._store.owner(other)) for other in self._store.find(FOLDER, place) if other != key)
        others = ((one, started(other)) for other, one in jobs if one)
        left = [one for one in self._store.find_children(JOB, FOLDER, place) if self._is_left(key[0], one)]
        return occupant(job, started(key), others, self._store.find_children(POD, FOLDER, place), left)

    def _is_left(self, namespace: str, child: Job) -> bool:
        """Whether a Job that has not ended belongs to no FineTuneJob that needs it."""
        key = (namespace, child.metadata.job)
        owner = self._store.owner(key)
        return not self._store.settled(key) if owner is None else owner.status.holds("Stalled")
