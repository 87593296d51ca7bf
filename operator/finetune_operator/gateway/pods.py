"""Looks up the pod behind a token, and the Job behind the pod."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from kubernetes.aio.client import ApiClient, ApiException, BatchV1Api, CoreV1Api

from finetune_operator.client import API_ERRORS, describe
from finetune_operator.gateway.identity import BoundObject, ChildMeta, JobKey, Reporter, batch_job_of, reporter_of
from finetune_operator.gateway.refusal import forbidden, unavailable

# Owners and labels of a running stage's pod don't change; a mistaken label may be mended.
CACHED_SECONDS = 600.0


class Reporters:
    """Finds reporters, and remembers the last ``capacity`` of them."""

    def __init__(self, api: ApiClient, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._core = CoreV1Api(api)
        self._batch = BatchV1Api(api)
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
            if isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND:
                raise forbidden(f"pod {bound.name!r} or its Job is gone") from None
            raise unavailable(f"the API server did not show pod {bound.name!r}: {describe(error)}") from None
        self._remember(bound, job, reporter)
        return reporter

    async def _look_up(self, bound: BoundObject, job: JobKey) -> Reporter:
        found = await self._core.read_namespaced_pod(bound.name, job.namespace)
        pod = ChildMeta.model_validate(found.metadata)
        owner = batch_job_of(pod, bound, job)
        found = await self._batch.read_namespaced_job(owner.name, job.namespace)
        batch_job = ChildMeta.model_validate(found.metadata)
        if batch_job.uid != owner.uid:
            raise forbidden(f"Job {owner.name!r} of pod {bound.name!r} was deleted and made anew")
        return reporter_of(pod, batch_job, job)

    def _remember(self, bound: BoundObject, job: JobKey, reporter: Reporter) -> None:
        self._known[bound.uid, job] = (reporter, self._clock())
        self._known.move_to_end((bound.uid, job))
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
