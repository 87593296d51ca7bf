"""Reads FineTuneJobs and patches their status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kubernetes.aio.client import ApiClient, ApiException, CustomObjectsApi

from finetune_api import names
from finetune_api.status import FineTuneJobStatus
from finetune_operator.gateway.decision import CurrentJob
from finetune_operator.gateway.identity import JobKey

JSON_PATCH = "application/json-patch+json"


class JobStatuses:
    """The status subresource of FineTuneJobs."""

    def __init__(self, api: ApiClient) -> None:
        self._api = CustomObjectsApi(api)

    async def read(self, job: JobKey) -> CurrentJob | None:
        """The object of that name, whatever its UID; None when there is none. Raises ApiException."""
        try:
            found = await self._api.get_namespaced_custom_object(
                names.GROUP, names.VERSION, job.namespace, names.PLURAL, job.name
            )
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        metadata = found["metadata"]
        status = FineTuneJobStatus.model_validate(found.get("status") or {})
        return CurrentJob(metadata["uid"], status, deleting="deletionTimestamp" in metadata)

    async def patch(self, job: JobKey, operations: list[dict[str, Any]]) -> bool:
        """Applies a JSON Patch to status. False when a test of it fails or the object is gone. Raises ApiException."""
        try:
            await self._api.patch_namespaced_custom_object_status(
                names.GROUP, names.VERSION, job.namespace, names.PLURAL, job.name, operations, _content_type=JSON_PATCH
            )
        except ApiException as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
                return False
            raise
        return True
