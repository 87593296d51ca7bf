"""Kubernetes Events: those that we tell people, and those in which controllers say what holds a child up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from finetune_api.base import format_time, sha256_of
from finetune_operator.runtime.client import API_ERRORS, ApiError, describe
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import EVENTS, Object

log = logging.getLogger(__name__)
LISTED_FOR = timedelta(seconds=5)


@dataclass(frozen=True)
class Reference:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Announcement:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Recorder:
    """Posts Events. They are for people: one that can't be posted is logged and costs nothing else."""

    def __init__(self, kube: Kube, component: str, instance: str, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._component = component
        self._instance = instance
        self._clock = clock

    async def record(self, about: Reference, what: Announcement) -> None:
        """Posts an Event; a repeated one is counted instead. Never raises for the API server's sake."""
        try:
            await self._post(about, what)
        except API_ERRORS as error:
            log.warning("%s/%s: Event %s lost: %s", about.namespace, about.name, what.reason, describe(error))

    async def _post(self, about: Reference, what: Announcement) -> None:
        event = self._event(about, what)
        try:
            await self._kube.create(EVENTS, event)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            name = event["metadata"]["name"]
            known = await self._kube.get(EVENTS, about.namespace, name) or {}
            seen = {"count": int(known.get("count") or 1) + 1, "lastTimestamp": event["lastTimestamp"]}
            await self._kube.merge(EVENTS, about.namespace, name, seen)

    def _event(self, about: Reference, what: Announcement) -> Object:
        moment = format_time(self._clock())
        digest = sha256_of([about.uid, what.type, what.reason, what.message])[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name}.{digest}", "namespace": about.namespace},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": what.type,
            "reason": what.reason,
            "message": what.message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }


@dataclass(frozen=True)
class Warning:
    """What a controller or a kubelet said of an object that it could not bring on."""

    reason: str
    message: str
    time: str  # as RFC 3339 text


class Warnings:
    """Why children are held up, for the rare one that is overdue: watching all Events would cost more than they tell.

    A namespace is listed at most once in a few seconds, however many ask: the API server reads all of its Events each
    time, and a thousand pods that pull one image are overdue together.
    """

    def __init__(self, kube: Kube, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._clock = clock
        self._told: dict[str, tuple[datetime, dict[str, list[Warning]]]] = {}  # by namespace: when, and by UID
        self._listing = asyncio.Lock()

    async def about(self, namespace: str, uid: str, since: datetime | None = None) -> list[Warning]:
        """The warnings about an object, newest first; those from before ``since``, to the second, are left out."""
        async with self._listing:
            now = self._clock()
            fresh = {one: told for one, told in self._told.items() if now - told[0] < LISTED_FOR}
            if namespace not in fresh:
                fresh[namespace] = now, await self._list(namespace)
            self._told = fresh
            known = fresh[namespace][1].get(uid, [])
        earliest = format_time(since)[:19] if since else ""
        return sorted((one for one in known if one.time[:19] >= earliest), key=lambda one: one.time, reverse=True)

    async def _list(self, namespace: str) -> dict[str, list[Warning]]:
        found: dict[str, list[Warning]] = {}
        async for page in self._kube.pages(EVENTS, namespace, fields="type=Warning"):
            for one in page:
                warning = Warning(str(one.get("reason", "")), str(one.get("message", "")), _moment(one))
                found.setdefault(one.get("involvedObject", {}).get("uid", ""), []).append(warning)
        return found


def _moment(event: Object) -> str:
    times = (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")
    return next((str(time) for time in times if time), "")
