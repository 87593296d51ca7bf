"""Names that more than one process must agree on."""

from __future__ import annotations

from typing import Final

GROUP = "finetune.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "finetune.dev/v1alpha1"
KIND: Final = "FineTuneJob"
PLURAL = "finetunejobs"
SINGULAR = "finetunejob"
SHORT_NAME = "ftj"

# The operator's watches select on JOB_LABEL at the API server, so every child carries it.
JOB_LABEL = f"{GROUP}/job"
STAGE_LABEL = f"{GROUP}/stage"
# The owner's UID, so that a pod of a deleted namesake is never taken for ours.
JOB_UID_LABEL = f"{GROUP}/job-uid"
SPEC_ANNOTATION = f"{GROUP}/spec-sha256"

# A child's name is the job's plus a suffix of at most 6 characters; a Job's name must fit a label (63).
MAX_NAME_LENGTH = 57

CONFIG_FILE = "config.json"
CA_FILE = "ca.crt"
CONFIG_DIRECTORY = "/etc/finetune"
TOKEN_DIRECTORY = "/var/run/secrets/finetune.dev"
TOKEN_FILE = "token"
CLAIM_DIRECTORY = "/mnt/claims"


def child_name(job_name: str, suffix: str) -> str:
    """The name of a child object: ``<job>-<suffix>`` (suffixes: train, eval, config)."""
    return f"{job_name}-{suffix}"


def claim_mount_path(claim: str) -> str:
    """Where a PersistentVolumeClaim is mounted in a stage's pod."""
    return f"{CLAIM_DIRECTORY}/{claim}"


def token_audience(namespace: str, name: str, uid: str) -> str:
    """The audience that a progress token must carry: one FineTuneJob object, not merely a name."""
    return f"{GROUP}/{namespace}/{name}/{uid}"


def progress_path(namespace: str, name: str) -> str:
    """The status gateway's URL path for one job, shaped like Kubeflow's KEP-2779."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status"
