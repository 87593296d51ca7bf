"""What a plan knows of one stage at one moment, and what it may ask for next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from finetune_api.stages import Stage
from finetune_api.status import FineTuneJobStatus
from finetune_operator.finetunejob.job_object import JobObject, Spec
from finetune_operator.workload.order import Order
from finetune_operator.workload.profile import LoadedProfile, ProfileProblem
from finetune_operator.workload.state import WorkloadState


class Need(StrEnum):
    """Something that this job's own children don't tell, looked at only when a plan depends on it."""

    SETUP = "Setup"  # profile and gateway
    FOLDER = "Folder"  # who holds the output folder, or comes first at it
    PODS = "Pods"  # a live list of the job's pods: the pod watch may lag behind the Job watch
    CLAIMS = "Claims"  # which of the spec's claims don't exist
    WARNINGS = "Warnings"  # the Events in which a controller or kubelet says why it can't go on


@dataclass(frozen=True)
class Setup:
    """What the administrator set up."""

    profile: LoadedProfile | ProfileProblem
    gateway_url: str = ""  # empty: there is none
    gateway_ca: str = ""  # empty: it has not written one yet


@dataclass(frozen=True)
class Said:
    """A reason and the words of whoever gave it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Facts:
    """Answers so far, in one pass over one object. None: not asked yet."""

    setup: Setup | None = None
    occupied: str | None = None  # who holds the output folder, as a sentence; empty: nobody
    pods_listed: bool = False
    missing_claims: tuple[str, ...] | None = None
    warnings: tuple[Said, ...] | None = None  # newest first
    trouble: Said | None = None  # the API server refuses, or fails at, what this pass asked for
    invalid: str = ""  # its words when it is the spec that has to change
    stale: str = ""  # a child of a deleted job of the same name is in the way
    conflict: str = ""  # somebody else's object holds a child's name


@dataclass(frozen=True)
class LookUp:
    """Find something out, then plan again."""

    need: Need
    about: str = ""  # of Warnings: the UID of the object that they are about
    since: datetime | None = None  # of Warnings: older Events speak of an earlier pod


@dataclass(frozen=True)
class Write:
    """Write this status, then plan again: it must be there before what follows from it happens."""

    status: FineTuneJobStatus


@dataclass(frozen=True)
class CreateJob:
    """Create a stage's Job, then plan again."""

    order: Order
    stage: Stage
    crashes: int  # those that the stage has had already


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


Step = LookUp | Write | CreateJob | DeleteJob | Settle


@dataclass(frozen=True)
class Wait:
    """The reason and message of an active stage, and when to look again though nothing has changed."""

    reason: str
    message: str
    revisit: float | None = None  # seconds


@dataclass(frozen=True)
class Situation:
    """One stage of one job at one moment."""

    job: JobObject
    spec: Spec
    stage: Stage
    status: FineTuneJobStatus  # with attempts recorded
    state: WorkloadState
    facts: Facts
    now: datetime

    @property
    def before(self) -> FineTuneJobStatus:
        """The status as the API server has it."""
        return self.job.status

    @property
    def backoff_limit(self) -> int:
        """How often the stage may crash."""
        return self.spec.resolved.scheduling.backoff_limit

    @property
    def memory_limit(self) -> str | None:
        """The pods' memory limit."""
        return self.spec.resolved.runtime.resources.limits.get("memory")
