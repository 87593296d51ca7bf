"""Kinds of the Kubernetes API and their URLs, and what every controller calls an object by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name


@dataclass(frozen=True)
class Resource:
    """A namespaced kind, as URLs and watches name it."""

    group: str  # empty: the core group
    version: str
    plural: str

    def path(self, namespace: str | None, *parts: str) -> str:
        """The URL path of a namespace's objects (None: of all namespaces), or of one object and its subresource."""
        root = f"/apis/{self.group}" if self.group else "/api"
        return f"{root}/{self.version}" + path(*(["namespaces", namespace] if namespace else []), self.plural, *parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def path(*segments: str) -> str:
    """A URL path of segments, each escaped."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
CONFIG_MAPS = Resource("", "v1", "configmaps")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
EVENTS = Resource("", "v1", "events")
