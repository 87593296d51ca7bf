"""One table of everything that ends or delays a stage: reason, exit code, retry, who sees it, and what to do next.

docs/failure-reasons.md is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """What a failed attempt does to its stage."""

    NEVER = "Never"  # fails the job: trying again can't help
    COUNTS = "Counts"  # tried again, up to scheduling.backoffLimit
    FREE = "Free"  # tried again without counting against backoffLimit


class Reason(StrEnum):
    """Machine-readable reasons, as they stand in conditions and in ``status.failure.reason``.

    Readers of a status treat them as open strings: a newer operator may know more.
    """

    INVALID_SPEC = "InvalidSpec"
    UNSUPPORTED_SPEC = "UnsupportedSpec"
    NAME_CONFLICT = "NameConflict"
    MODEL_NOT_FOUND = "ModelNotFound"
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_INVALID = "DatasetInvalid"
    CREDENTIALS_REJECTED = "CredentialsRejected"
    DEVICE_UNSUPPORTED = "DeviceUnsupported"
    OUT_OF_MEMORY = "OutOfMemory"
    LOSS_DIVERGED = "LossDiverged"
    STORAGE_FULL = "StorageFull"
    STORAGE_UNSUITABLE = "StorageUnsuitable"
    EVALUATION_FAILED = "EvaluationFailed"
    GATES_FAILED = "GatesFailed"
    GATES_INCONCLUSIVE = "GatesInconclusive"
    ARTIFACT_MISMATCH = "ArtifactMismatch"
    TRAINER_CRASHED = "TrainerCrashed"
    DEVICE_LOST = "DeviceLost"
    INTERRUPTED = "Interrupted"
    FOLDER_BUSY = "FolderBusy"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    NODE_REFUSED = "NodeRefused"
    NODE_PRESSURE = "NodePressure"
    SUSPENDED = "Suspended"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    FAILED_MOUNT = "FailedMount"
    POD_REJECTED = "PodRejected"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    PROFILE_NOT_FOUND = "ProfileNotFound"
    PROFILE_FORBIDDEN = "ProfileForbidden"
    API_ERROR = "ApiError"


@dataclass(frozen=True)
class FailureClass:
    """What follows from a reason."""

    reason: str
    retry: Retry
    meaning: str  # what has happened, one line
    advice: str  # what the user should do next, one line
    exit_code: int | None = None  # the trainer's exit code; None: only the operator sees this reason
    limit: int | None = None  # how often it is tried again in a stage before it fails the job, where Free has an end


# Exit codes stay clear of 1 and 2 (Python), 126 and up (shells and signals).
OUT_OF_MEMORY_KILL = 137

_TABLE = (
    FailureClass(
        Reason.INVALID_SPEC,
        Retry.NEVER,
        "a field of the spec can't be obeyed",
        "correct the field and apply under a new name",
        64,
    ),
    FailureClass(
        Reason.MODEL_NOT_FOUND,
        Retry.NEVER,
        "the base model is missing, incomplete or can't be read",
        "check spec.model.source and its revision",
        65,
    ),
    FailureClass(
        Reason.DATASET_NOT_FOUND,
        Retry.NEVER,
        "a dataset, its configuration or its split is missing",
        "check the dataset's source, config, revision and split",
        66,
    ),
    FailureClass(
        Reason.DATASET_INVALID,
        Retry.NEVER,
        "a row can't be used as it stands; the message names row and column",
        "mend the named row, or name the right columns",
        67,
    ),
    FailureClass(
        Reason.DEVICE_UNSUPPORTED,
        Retry.NEVER,
        "the node's GPU is missing or can't compute what the spec asks for",
        "check the node's driver and the profile's GPU resource",
        68,
    ),
    FailureClass(
        Reason.OUT_OF_MEMORY,
        Retry.NEVER,
        "memory of the GPU or of the host ran out; the message says which",
        "lower microBatchSize or maxSequenceLength, or set gradientCheckpointing: Unsloth",
        69,
    ),
    FailureClass(
        Reason.LOSS_DIVERGED,
        Retry.NEVER,
        "loss or gradient is no number, or the loss is exactly zero or runs away; the last good checkpoint stays",
        "lower learningRate, or use dtype BFloat16",
        70,
    ),
    FailureClass(
        Reason.STORAGE_FULL,
        Retry.NEVER,
        "a volume has no room left, or too little for what the run will write",
        "enlarge or clear the output claim",
        71,
    ),
    FailureClass(
        Reason.EVALUATION_FAILED,
        Retry.NEVER,
        "the adapter is there, but it could not be evaluated",
        "mend that and apply under a new name: the adapter is kept and reused",
        72,
    ),
    FailureClass(
        Reason.STORAGE_UNSUITABLE,
        Retry.NEVER,
        "the output claim can't be written by the pod, or its file system can't rename",
        "use a claim that the pod's user may write to and whose file system renames files and folders",
        73,
    ),
    FailureClass(
        Reason.CREDENTIALS_REJECTED,
        Retry.NEVER,
        "a source or a judge wants credentials, or does not take those that it was given",
        "check the Secret that its secretRef names, and what its owner may read",
        74,
    ),
    FailureClass(
        Reason.INTERRUPTED,
        Retry.FREE,
        "the pod was told to stop before the stage was done",
        "nothing: the stage starts again, a training from its last checkpoint",
        75,
    ),
    FailureClass(
        Reason.ARTIFACT_MISMATCH,
        Retry.NEVER,
        "what was saved, loaded back, does not answer as what was trained",
        "report it with the model's name; the files stay in the run's folder",
        77,
    ),
    FailureClass(
        Reason.FOLDER_BUSY,
        Retry.FREE,
        "an earlier pod of this job still writes to the run's folder",
        "nothing: the stage starts again; if it lasts, remove the node that the earlier pod is on",
        76,
    ),
    FailureClass(
        Reason.DEVICE_LOST,
        Retry.COUNTS,
        "the GPU failed or was taken away in mid-run",
        "nothing while it is tried again, a training from its last checkpoint; if it lasts, drain the node",
        78,
    ),
    FailureClass(
        Reason.GATES_FAILED,
        Retry.NEVER,
        "the model was trained and evaluated, but a gate says that it is not good enough",
        "train otherwise, or change the gate, and apply under a new name; adapter and report are kept",
        79,
    ),
    FailureClass(
        Reason.GATES_INCONCLUSIVE,
        Retry.NEVER,
        "the model was trained and evaluated, but the held-out rows are too few to tell whether a gate is met",
        "take more held-out rows, or ask for a larger difference, and apply under a new name; the adapter is reused",
        80,
    ),
    FailureClass(
        Reason.TRAINER_CRASHED,
        Retry.COUNTS,
        "the trainer ended in a way that it has no word for",
        "read the last lines in status.failure.log",
        1,
    ),
    FailureClass(
        Reason.NAME_CONFLICT,
        Retry.NEVER,
        "somebody else's object holds the name of a child",
        "rename the job, or delete the object that holds the name",
    ),
    FailureClass(
        Reason.PREEMPTED,
        Retry.FREE,
        "the pod was evicted for the cluster's own reasons",
        "nothing: the pod is replaced, and a training goes on from its last checkpoint",
    ),
    FailureClass(
        Reason.NODE_LOST,
        Retry.FREE,
        "the pod's node does not answer, or lost track of it",
        "nothing once the node is removed or tainted out-of-service",
    ),
    FailureClass(
        Reason.NODE_REFUSED,
        Retry.FREE,
        "the node did not admit a pod that the scheduler gave it",
        "nothing while it is tried again; then check the node's kubelet and device plugin",
        limit=5,
    ),
    FailureClass(
        Reason.NODE_PRESSURE,
        Retry.FREE,
        "the node evicted the pod because it ran out of memory, disk or process ids",
        "set limits of memory and ephemeral-storage in spec.runtime.resources, or have the profile name a cacheClaim",
        limit=3,
    ),
    FailureClass(
        Reason.UNSUPPORTED_SPEC,
        Retry.FREE,
        "this version of the operator can't read the spec",
        "run an operator that knows the field, or delete the job; what runs goes on",
    ),
    FailureClass(
        Reason.SUSPENDED,
        Retry.FREE,
        "somebody suspended the stage's Job",
        'whoever suspended the Job resumes it: kubectl patch job <name> -p \'{"spec":{"suspend":false}}\'',
    ),
    FailureClass(
        Reason.UNSCHEDULABLE,
        Retry.FREE,
        "no node has room for the pod; the message is the scheduler's",
        "wait for a node, or change resources, nodeSelector, tolerations",
    ),
    FailureClass(
        Reason.VOLUME_NOT_FOUND,
        Retry.FREE,
        "a PersistentVolumeClaim that the spec names does not exist",
        "create the PersistentVolumeClaim: the job then starts by itself",
    ),
    FailureClass(
        Reason.FAILED_MOUNT,
        Retry.FREE,
        "a volume can't be attached or mounted; the message is the kubelet's",
        "mend the volume, or create what is not found: the pod then starts by itself",
    ),
    FailureClass(
        Reason.POD_REJECTED,
        Retry.FREE,
        "the API server refuses the Job or its pod",
        "see the message: quota, LimitRange, Pod Security or an admission webhook",
    ),
    FailureClass(
        Reason.IMAGE_PULL_FAILED,
        Retry.FREE,
        "the trainer's image can't be pulled",
        "check the profile's image and pull secrets",
    ),
    FailureClass(
        Reason.PROFILE_NOT_FOUND,
        Retry.FREE,
        "the profile does not exist or can't be read",
        "ask the administrator for the profile's name",
    ),
    FailureClass(
        Reason.PROFILE_FORBIDDEN,
        Retry.FREE,
        "the profile does not allow this namespace",
        "name another profile, or have the administrator add the namespace to the profile's allowedNamespaces",
    ),
    FailureClass(
        Reason.API_ERROR,
        Retry.FREE,
        "the API server fails at what the operator asks for; the message is its own",
        "nothing while it is tried again; if it lasts, see the message",
    ),
)

FAILURES: dict[str, FailureClass] = {entry.reason: entry for entry in _TABLE}
BY_EXIT_CODE: dict[int, FailureClass] = {entry.exit_code: entry for entry in _TABLE if entry.exit_code is not None}

# The two lists of a Job's podFailurePolicy.
NEVER_EXIT_CODES = sorted(code for code, entry in BY_EXIT_CODE.items() if entry.retry is Retry.NEVER)
FREE_EXIT_CODES = sorted(code for code, entry in BY_EXIT_CODE.items() if entry.retry is Retry.FREE)


def failure_class(reason: str) -> FailureClass:
    """What follows from a reason. One that this version does not know is tried again and counted, like a crash."""
    known = FAILURES.get(reason)
    return known or FailureClass(reason, Retry.COUNTS, "a reason of another version", "see the message")


def exit_code(reason: Reason) -> int:
    """The trainer's exit code for a reason. Raises ValueError for a reason that only the operator sees."""
    code = FAILURES[reason].exit_code
    if code is None:
        raise ValueError(f"{reason} has no exit code: only the operator sees it")
    return code
