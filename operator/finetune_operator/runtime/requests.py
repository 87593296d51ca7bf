"""The one module that talks to the API server. Objects come and go as plain dictionaries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernetes.aio.client import ApiClient

from finetune_api.base import format_time, sha256_of
from finetune_api.job import ObjectMeta
from finetune_api.names import API_VERSION, GROUP, JOB_LABEL, KIND, PLURAL, VERSION
from finetune_operator.finetunejob.events import Announcement
from finetune_operator.runtime.client import JSON, ApiError, path, request

Object = dict[str, Any]
COMPONENT = "finetune-operator"
_MERGE = "application/merge-patch+json"
# Every cached object is read whole; a page bounds what one response holds in memory.
_PAGE = "500"


class Kube:
    """Exactly the calls that the operator makes; its ClusterRole mirrors them."""

    def __init__(self, client: ApiClient, instance: str) -> None:
        self._client = client
        self._instance = instance

    async def get_job(self, namespace: str, name: str) -> Object | None:
        """A FineTuneJob."""
        return await self._get(_jobs_path(namespace, name))

    async def list_jobs(self, namespace: str | None) -> list[Object]:
        """All FineTuneJobs of a namespace, or of all."""
        return await self._list(_jobs_path(namespace))

    async def replace_status(self, job: Object) -> Object:
        """Writes ``job['status']``, if the object is still at its ``resourceVersion``. Raises ApiError 409 if not."""
        meta = job["metadata"]
        return await self._request("PUT", _jobs_path(meta["namespace"], meta["name"]) + "/status", body=job)

    async def list_child_jobs(self, namespace: str | None) -> list[Object]:
        """All Jobs that carry the job label."""
        return await self._list(_path("/apis/batch/v1", namespace, "jobs"), labelSelector=JOB_LABEL)

    async def list_child_pods(self, namespace: str | None, job: str | None = None) -> list[Object]:
        """All pods that carry the job label, or those of one FineTuneJob."""
        selector = f"{JOB_LABEL}={job}" if job else JOB_LABEL
        return await self._list(_path("/api/v1", namespace, "pods"), labelSelector=selector)

    async def create(self, manifest: Object) -> Object:
        """Creates a Job or a ConfigMap. Raises ApiError 409 when its name is taken."""
        return await self._request("POST", _child_path(manifest), body=manifest)

    async def get(self, manifest: Object) -> Object | None:
        """What lies at the name of a Job or ConfigMap."""
        return await self._get(f"{_child_path(manifest)}/{manifest['metadata']['name']}")

    async def get_config_map(self, namespace: str, name: str) -> Object | None:
        """A ConfigMap."""
        return await self._get(_path("/api/v1", namespace, "configmaps", name))

    async def claim_exists(self, namespace: str, name: str) -> bool:
        """Whether there is a PersistentVolumeClaim of this name."""
        return await self._get(_path("/api/v1", namespace, "persistentvolumeclaims", name)) is not None

    async def delete_child_job(self, namespace: str, name: str, uid: str) -> None:
        """Deletes a Job and its pods, if the Job still has this UID."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._request("DELETE", _path("/apis/batch/v1", namespace, "jobs", name), body=options)
        except ApiError as error:
            if error.status not in (404, 409):  # gone already, or a namesake took its place
                raise

    async def rejection_of(self, namespace: str, job_uid: str, since: datetime | None = None) -> str:
        """Why the Job controller could not create a pod: the newest FailedCreate Event's message, or empty.

        Events from before ``since``, to the second, are left out.
        """
        found = await self._list(
            _path("/api/v1", namespace, "events"), fieldSelector=f"involvedObject.uid={job_uid},reason=FailedCreate"
        )
        known = [event for event in found if since is None or _event_time(event)[:19] >= format_time(since)[:19]]
        newest = max(known, key=_event_time, default=None)
        return str(newest.get("message", "")) if newest else ""

    async def announce(self, job: ObjectMeta, what: Announcement, now: datetime) -> None:
        """Posts an Event; a repeated one is counted instead."""
        event = _event(job, what, now, self._instance)
        events = _path("/api/v1", job.namespace, "events")
        try:
            await self._request("POST", events, body=event)
        except ApiError as error:
            if error.status != 409:
                raise
            one = f"{events}/{event['metadata']['name']}"
            known = await self._get(one) or {}
            seen = {"count": int(known.get("count") or 1) + 1, "lastTimestamp": format_time(now)}
            await self._request("PATCH", one, body=seen, content_type=_MERGE)

    async def _get(self, url: str) -> Object | None:
        try:
            return await self._request("GET", url)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _list(self, url: str, **query: str) -> list[Object]:
        items: list[Object] = []
        position = {"limit": _PAGE}
        while True:
            page = await self._request("GET", url, query={**query, **position})
            items += page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            position["continue"] = token

    async def _request(
        self,
        method: str,
        url: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
    ) -> Object:
        return await request(self._client, method, url, query=query, body=body, content_type=content_type)


def _path(prefix: str, namespace: str | None, *parts: str) -> str:
    return prefix + path(*(["namespaces", namespace] if namespace else []), *parts)


def _jobs_path(namespace: str | None, *name: str) -> str:
    return _path(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL, *name)


def _child_path(manifest: Object) -> str:
    prefix = "/apis/batch/v1" if manifest["kind"] == "Job" else "/api/v1"
    return _path(prefix, manifest["metadata"]["namespace"], f"{manifest['kind'].lower()}s")


def _event_time(event: Object) -> str:
    times = (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")
    return next((str(time) for time in times if time), "")


def _event(job: ObjectMeta, what: Announcement, now: datetime, instance: str) -> Object:
    moment = format_time(now)
    digest = sha256_of([job.uid, what.type, what.reason, what.message])[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.name}.{digest}", "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
        "type": what.type,
        "reason": what.reason,
        "message": what.message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
