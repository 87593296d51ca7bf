"""One table of everything that ends or delays a stage: reason, exit code, retry, and what to tell the user."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """What a failed attempt does to its stage."""

    NEVER = "Never"  # fails the job: trying again can't help
    COUNTS = "Counts"  # tried again, up to scheduling.backoffLimit
    FREE = "Free"  # tried again without counting


class Reason(StrEnum):
    """Machine-readable reasons, as they stand in conditions and in ``status.failure.reason``."""

    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    MODEL_NOT_FOUND = "ModelNotFound"
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_INVALID = "DatasetInvalid"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    DEVICE_UNSUPPORTED = "DeviceUnsupported"
    OUT_OF_MEMORY = "OutOfMemory"
    LOSS_DIVERGED = "LossDiverged"
    STORAGE_FULL = "StorageFull"
    EVALUATION_FAILED = "EvaluationFailed"
    TRAINER_CRASHED = "TrainerCrashed"
    INTERRUPTED = "Interrupted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    UNSCHEDULABLE = "Unschedulable"
    POD_REJECTED = "PodRejected"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    PROFILE_NOT_FOUND = "ProfileNotFound"


@dataclass(frozen=True)
class FailureClass:
    """What follows from a reason."""

    reason: Reason
    retry: Retry
    advice: str  # what the user should do next, one line
    exit_code: int | None = None  # the trainer's exit code; None: only the operator sees this reason


# Exit codes stay clear of 1 and 2 (Python), 126 and up (shells and signals).
OUT_OF_MEMORY_KILL = 137

_TABLE = (
    FailureClass(Reason.INVALID_SPEC, Retry.NEVER, "correct the field and apply under a new name", 64),
    FailureClass(Reason.MODEL_NOT_FOUND, Retry.NEVER, "check spec.model.source and its revision", 65),
    FailureClass(Reason.DATASET_NOT_FOUND, Retry.NEVER, "check the dataset's source, revision and split", 66),
    FailureClass(Reason.DATASET_INVALID, Retry.NEVER, "mend the named row, or name the right columns", 67),
    FailureClass(Reason.DEVICE_UNSUPPORTED, Retry.NEVER, "check the node's driver and the profile's GPU resource", 68),
    FailureClass(
        Reason.OUT_OF_MEMORY,
        Retry.NEVER,
        "lower microBatchSize or maxSequenceLength, or set gradientCheckpointing: Unsloth",
        69,
    ),
    FailureClass(Reason.LOSS_DIVERGED, Retry.NEVER, "lower learningRate, or use dtype BFloat16", 70),
    FailureClass(Reason.STORAGE_FULL, Retry.NEVER, "enlarge or clear the output claim", 71),
    FailureClass(Reason.EVALUATION_FAILED, Retry.NEVER, "see the message; the adapter is kept", 72),
    FailureClass(Reason.INTERRUPTED, Retry.FREE, "nothing: the stage starts again", 75),
    FailureClass(Reason.TRAINER_CRASHED, Retry.COUNTS, "read the last lines in status.failure.log", 1),
    FailureClass(Reason.NAME_CONFLICT, Retry.NEVER, "rename the job, or delete the object that holds the name"),
    FailureClass(Reason.VOLUME_NOT_FOUND, Retry.NEVER, "create the PersistentVolumeClaim, then apply again"),
    FailureClass(Reason.PREEMPTED, Retry.FREE, "nothing: the pod is replaced"),
    FailureClass(Reason.NODE_LOST, Retry.FREE, "nothing once the node is removed or tainted out-of-service"),
    FailureClass(Reason.UNSCHEDULABLE, Retry.FREE, "wait for a node, or change resources, nodeSelector, tolerations"),
    FailureClass(Reason.POD_REJECTED, Retry.FREE, "see the message: quota, LimitRange or Pod Security"),
    FailureClass(Reason.IMAGE_PULL_FAILED, Retry.FREE, "check the profile's image and pull secrets"),
    FailureClass(Reason.PROFILE_NOT_FOUND, Retry.FREE, "ask the administrator for the profile's name"),
)

FAILURES: dict[Reason, FailureClass] = {entry.reason: entry for entry in _TABLE}
BY_EXIT_CODE: dict[int, FailureClass] = {entry.exit_code: entry for entry in _TABLE if entry.exit_code is not None}

# The two lists of a Job's podFailurePolicy.
NEVER_EXIT_CODES = sorted(code for code, entry in BY_EXIT_CODE.items() if entry.retry is Retry.NEVER)
FREE_EXIT_CODES = sorted(code for code, entry in BY_EXIT_CODE.items() if entry.retry is Retry.FREE)


def exit_code(reason: Reason) -> int:
    """The trainer's exit code for a reason. Raises ValueError for a reason that only the operator sees."""
    code = FAILURES[reason].exit_code
    if code is None:
        raise ValueError(f"{reason} has no exit code: only the operator sees it")
    return code
