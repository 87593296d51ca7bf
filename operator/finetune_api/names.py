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
TRAINING_ANNOTATION = f"{GROUP}/training-sha256"
PROFILE_ANNOTATION = f"{GROUP}/profile-sha256"
# The run's folder, on a stage's Job and pods: while such a pod lives, whoever owned it, the folder is taken.
FOLDER_ANNOTATION = f"{GROUP}/folder"
# On a stage's pod template: the run's configuration and the gateway's CA, which the pod reads as files through the
# downward API. So they can change no more than the Job's template can.
CONFIG_ANNOTATION = f"{GROUP}/config"
CA_ANNOTATION = f"{GROUP}/gateway-ca"
# The container whose exit code and termination message count, whatever else is injected into the pod.
CONTAINER = "trainer"
# The gateway writes its CA to this ConfigMap of the operator's namespace, and the operator reads it there.
GATEWAY_CA_CONFIG_MAP = "finetune-gateway-ca"

# A child's name is the job's plus a suffix of at most 6 characters; a Job's name must fit a label (63).
MAX_NAME_LENGTH = 57

CONFIG_FILE = "config.json"
CA_FILE = "ca.crt"
CONFIG_DIRECTORY = "/etc/finetune"
TOKEN_DIRECTORY = "/var/run/secrets/finetune.dev"
TOKEN_FILE = "token"
CLAIM_DIRECTORY = "/mnt/claims"


def child_name(job_name: str, suffix: str) -> str:
    """The name of a child object: ``<job>-<suffix>`` (suffixes: those of finetune_api.stages)."""
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
