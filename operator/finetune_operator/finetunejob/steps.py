"""What a plan may ask for next, and what is known from looking at the cluster on its behalf."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from finetune_api.results import Stage
from finetune_api.status import FineTuneJobStatus
from finetune_operator.workload.job import Order
from finetune_operator.workload.profile import LoadedProfile, ProfileProblem


class Need(StrEnum):
    """Something that no watch tells and that is read live, only when a plan depends on it."""

    SETUP = "Setup"  # profile and gateway
    PODS = "Pods"  # a list of the job's pods: the pod watch may lag behind the Job watch
    CLAIMS = "Claims"  # which of the spec's claims don't exist
    REJECTION = "Rejection"  # why a Job has no pod
    FOLDER = "Folder"  # who comes first at the output folder: told by the cache of all jobs, not by this job's children


@dataclass(frozen=True)
class Setup:
    """What the administrator set up."""

    profile: LoadedProfile | ProfileProblem
    gateway_url: str = ""  # empty: there is none
    gateway_ca: str = ""  # empty: it has not written one yet


@dataclass(frozen=True)
class Facts:
    """Answers so far, in one pass. None: not asked yet."""

    setup: Setup | None = None
    pods_listed: bool = False
    missing_claims: tuple[str, ...] | None = None
    rejection: str | None = None  # empty: no such event
    config_ready: bool = False
    occupied: str | None = None  # the job that comes first at the output folder; empty: this one
    refusal: str = ""  # the API server's words for a create that it refused
    invalid: str = ""  # the same, when it is the spec that has to change
    stale: str = ""  # a child of a deleted job of the same name is in the way
    conflict: str = ""  # somebody else's object holds a child's name


@dataclass(frozen=True)
class LookUp:
    """Find something out, then plan again."""

    need: Need
    since: datetime | None = None  # of Rejection: older Events speak of an earlier pod


@dataclass(frozen=True)
class CreateConfig:
    """Create the ConfigMap, then plan again."""

    order: Order


@dataclass(frozen=True)
class CreateJob:
    """Create a stage's Job, then plan again."""

    order: Order
    stage: Stage


@dataclass(frozen=True)
class DeleteJob:
    """Delete exactly this Job, then come back."""

    name: str
    uid: str
    why: str


@dataclass(frozen=True)
class Settle:
    """Nothing is left to do but to write this status, where it differs, and to come back in ``revisit`` seconds."""

    status: FineTuneJobStatus
    revisit: float | None = None


Step = LookUp | CreateConfig | CreateJob | DeleteJob | Settle
