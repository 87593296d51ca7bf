"""What must hold before a stage's Job is created: one ordered list of small questions. Pure.

Each check passes or says why not. Of all that don't, the first tells the reason, and the earliest of their revisits is
when they are asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finetune_api.base import with_advice
from finetune_api.reasons import FAILURES, Reason
from finetune_api.results import MAX_MESSAGE
from finetune_api.status import PENDING, FineTuneJobStatus
from finetune_operator.finetunejob.job_object import JobObject, Spec
from finetune_operator.finetunejob.steps import Facts, Setup, Wait
from finetune_operator.workload.profile import LoadedProfile, ProfileProblem

SOON = 5.0
# Whoever leaves the folder wakes those who wait for it; this is for what no watch told.
FOLDER_SECONDS = 30.0
# Training without live progress is better than not training: the gateway's certificate is not waited for longer.
GATEWAY_GRACE = timedelta(seconds=60)


@dataclass(frozen=True)
class Start:
    """A stage that is to start."""

    job: JobObject
    status: FineTuneJobStatus
    facts: Facts
    setup: Setup
    now: datetime


Check = Callable[[Start], Wait | None]


def advised(reason: Reason, text: str) -> str:
    """What is wrong, and the table's advice."""
    return with_advice(text, FAILURES[reason].advice, MAX_MESSAGE)


def unknown_fields(spec: Spec) -> str:
    """What is said of a spec with fields that this version would pass over."""
    return advised(Reason.UNSUPPORTED_SPEC, f"this version of the operator does not know {spec.unknown}")


def spec_is_known(at: Start) -> Wait | None:
    """A field that this version would pass over may change what is trained."""
    if at.job.spec is None or not at.job.spec.unknown:
        return None
    return Wait(Reason.UNSUPPORTED_SPEC, unknown_fields(at.job.spec))


def namesake_is_gone(at: Start) -> Wait | None:
    """A child of a deleted job of this name holds the name."""
    stale = at.facts.stale
    return Wait(PENDING, f"waiting until {stale} of a deleted job of this name is gone", SOON) if stale else None


def profile_is_there(at: Start) -> Wait | None:
    """The administrator's profile can be read."""
    profile = at.setup.profile
    return Wait(Reason.PROFILE_NOT_FOUND, profile.message, SOON) if isinstance(profile, ProfileProblem) else None


def profile_allows(at: Start) -> Wait | None:
    """The profile is for this namespace."""
    profile, namespace = at.setup.profile, at.job.metadata.namespace
    if not isinstance(profile, LoadedProfile) or profile.profile.allows(namespace):
        return None
    text = f"profile {profile.name!r} is not for jobs of namespace {namespace!r}"
    return Wait(Reason.PROFILE_FORBIDDEN, advised(Reason.PROFILE_FORBIDDEN, text), SOON)


def gateway_is_ready(at: Start) -> Wait | None:
    """The status gateway has written its certificate, or had its time."""
    since = at.now - (at.status.start_time or at.now)
    if not at.setup.gateway_url or at.setup.gateway_ca or since >= GATEWAY_GRACE:
        return None
    left = (GATEWAY_GRACE - since).total_seconds()
    return Wait(PENDING, "waiting for the status gateway's certificate", min(SOON, left))


def folder_is_free(at: Start) -> Wait | None:
    """Nobody else writes to the run's folder, or is to come first."""
    return Wait(PENDING, at.facts.occupied, FOLDER_SECONDS) if at.facts.occupied else None


def api_server_takes_it(at: Start) -> Wait | None:
    """The API server did not refuse the Job in this pass, or fail at it. The queue backs off and tries again."""
    trouble = at.facts.trouble
    return Wait(trouble.reason, trouble.message) if trouble else None


CHECKS: tuple[Check, ...] = (
    spec_is_known,
    namesake_is_gone,
    profile_is_there,
    profile_allows,
    api_server_takes_it,
    folder_is_free,
    gateway_is_ready,
)


def held_up(at: Start) -> Wait | None:
    """Why the stage can't start yet, and when to ask again; None when it can."""
    waits = [wait for check in CHECKS if (wait := check(at))]
    if not waits:
        return None
    revisits = [wait.revisit for wait in waits if wait.revisit is not None]
    return replace(waits[0], revisit=min(revisits, default=None))
