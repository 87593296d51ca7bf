"""Events are for people: what is posted, and that one which can't be posted costs nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_operator.runtime.client import ApiError
from finetune_operator.runtime.events import Announcement, Recorder, Reference
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.resources import Object, Resource

ABOUT = Reference("finetune.dev/v1alpha1", "FineTuneJob", "ml", "medqa", "u1")
WHAT = Announcement("Warning", "OutOfMemory", "no room")


class Refusing(Kube):
    """An API server at which every create fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def create(self, resource: Resource, manifest: Object) -> Object:
        raise self._error


def recorder(kube: Kube) -> Recorder:
    """A recorder whose clock stands still."""
    return Recorder(kube, "finetune-operator", "pod-1", lambda: datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("gone"), ApiError(403, "Forbidden", "no")])
async def test_an_event_that_cannot_be_posted_is_logged_and_costs_nothing_else(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await recorder(Refusing(error)).record(ABOUT, WHAT)
    assert "ml/medqa: Event OutOfMemory lost" in caplog.text


async def test_an_event_speaks_of_its_object_and_has_one_name_for_one_fact() -> None:
    posted: list[Any] = []

    class Noting(Kube):
        async def create(self, resource: Resource, manifest: Object) -> Object:
            posted.append((resource.plural, manifest))
            return manifest

    for what in (WHAT, WHAT, Announcement("Warning", "OutOfMemory", "no room at all")):
        await recorder(Noting(None)).record(ABOUT, what)
    assert {plural for plural, _ in posted} == {"events"}
    first, second, third = (manifest for _, manifest in posted)
    assert first["involvedObject"] == {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "namespace": "ml",
        "name": "medqa",
        "uid": "u1",
    }
    assert first == second
    assert third["metadata"]["name"] != first["metadata"]["name"]
