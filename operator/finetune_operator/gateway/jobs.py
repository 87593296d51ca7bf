"""Reads FineTuneJobs and patches their status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kubernetes.aio.client import ApiClient

from finetune_api import names
from finetune_api.status import FineTuneJobStatus
from finetune_operator.gateway.decision import CurrentJob
from finetune_operator.gateway.identity import JobKey
from finetune_operator.runtime.client import JSON_PATCH, ApiError, path, request


class JobStatuses:
    """The status subresource of FineTuneJobs."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def read(self, job: JobKey) -> CurrentJob | None:
        """The object of that name, whatever its UID; None when there is none. Raises one of API_ERRORS."""
        try:
            found = await request(self._api, "GET", _path(job))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        metadata = found["metadata"]
        status = FineTuneJobStatus.model_validate(found.get("status") or {})
        return CurrentJob(metadata["uid"], status, deleting="deletionTimestamp" in metadata)

    async def patch(self, job: JobKey, operations: list[dict[str, Any]]) -> bool:
        """Applies a JSON Patch to status. False when a test fails or the object is gone. Raises one of API_ERRORS."""
        try:
            await request(self._api, "PATCH", _path(job, "status"), body=operations, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
                return False
            raise
        return True


def _path(job: JobKey, *subresource: str) -> str:
    return path("apis", names.GROUP, names.VERSION, "namespaces", job.namespace, names.PLURAL, job.name, *subresource)
