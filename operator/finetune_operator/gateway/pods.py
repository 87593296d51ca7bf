"""Looks up the pod behind a token, and the Job behind the pod."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from kubernetes.aio.client import ApiClient

from finetune_operator.gateway.identity import BoundObject, JobKey, Reporter, batch_job_of, reporter_of
from finetune_operator.gateway.refusal import forbidden, unavailable
from finetune_operator.runtime.client import API_ERRORS, ApiError, describe, path, request
from finetune_operator.workload.objects import Metadata

# Owners and labels of a running stage's pod don't change; a mistaken label may be mended.
CACHED_SECONDS = 600.0


class Reporters:
    """Finds reporters, and remembers the last ``capacity`` of them."""

    def __init__(self, api: ApiClient, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._capacity = capacity
        self._clock = clock
        self._known: OrderedDict[tuple[str, JobKey], tuple[Reporter, float]] = OrderedDict()

    async def find(self, bound: BoundObject, job: JobKey) -> Reporter:
        """The reporter that a pod is.

        Raises Refusal: 403 when the pod may not report for the job, 503 when the API server can't be asked.
        """
        known = self._known.get((bound.uid, job))
        if known and self._clock() - known[1] < CACHED_SECONDS:
            return known[0]
        try:
            reporter = await self._look_up(bound, job)
        except API_ERRORS as error:
            if isinstance(error, ApiError) and error.status == HTTPStatus.NOT_FOUND:
                raise forbidden(f"pod {bound.name!r} or its Job is gone") from None
            raise unavailable(f"the API server did not show pod {bound.name!r}: {describe(error)}") from None
        self._remember(bound, job, reporter)
        return reporter

    async def _look_up(self, bound: BoundObject, job: JobKey) -> Reporter:
        pod = await self._metadata("api", "v1", "namespaces", job.namespace, "pods", bound.name)
        owner = batch_job_of(pod, bound, job)
        batch_job = await self._metadata("apis", "batch", "v1", "namespaces", job.namespace, "jobs", owner.name)
        if batch_job.uid != owner.uid:
            raise forbidden(f"Job {owner.name!r} of pod {bound.name!r} was deleted and made anew")
        return reporter_of(pod, batch_job, job)

    async def _metadata(self, *segments: str) -> Metadata:
        return Metadata.model_validate((await request(self._api, "GET", path(*segments)))["metadata"])

    def _remember(self, bound: BoundObject, job: JobKey, reporter: Reporter) -> None:
        self._known[bound.uid, job] = (reporter, self._clock())
        self._known.move_to_end((bound.uid, job))
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
