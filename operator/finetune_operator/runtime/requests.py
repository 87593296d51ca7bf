"""The verbs that controllers use on the API server, for any kind. Objects come and go as plain dictionaries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kubernetes.aio.client import ApiClient

from finetune_operator.runtime.client import ADMISSION_SECONDS, MERGE_PATCH, ApiError, request
from finetune_operator.runtime.resources import Object, Resource

# A page bounds what one response holds in memory.
_PAGE = "500"


class Kube:
    """The calls that the operator makes; its ClusterRole mirrors them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object, or None."""
        try:
            return await self._request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[list[Object]]:
        """The objects of a namespace, or of all, that selectors pick, by page."""
        query = {"limit": _PAGE}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._request("GET", resource.path(namespace), query=query)
            yield page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """The objects of a namespace, or of all, that selectors pick."""
        return [one async for page in self.pages(resource, namespace, labels=labels, fields=fields) for one in page]

    async def create(self, resource: Resource, manifest: Object) -> Object:
        """Creates an object. Raises ApiError with reason AlreadyExists when its name is taken."""
        url = resource.path(manifest["metadata"]["namespace"])
        return await self._request("POST", url, body=manifest, seconds=ADMISSION_SECONDS)

    async def replace_status(self, resource: Resource, item: Object) -> Object:
        """Writes ``item['status']`` of the object that ``item['metadata']`` names, if it is still at that version.

        Nothing else of the object need be there. Raises ApiError 409 when somebody was faster.
        """
        meta = item["metadata"]
        return await self._request("PUT", resource.path(meta["namespace"], meta["name"], "status"), body=item)

    async def merge(self, resource: Resource, namespace: str, name: str, change: Object) -> Object:
        """Merges a change into an object."""
        return await self._request("PATCH", resource.path(namespace, name), body=change, content_type=MERGE_PATCH)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        """Deletes an object and what it owns, if it still has this UID. False: it is gone, or a namesake is there."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return False
        return True

    async def _request(self, method: str, url: str, **content: Any) -> Object:
        return await request(self._client, method, url, **content)
