"""Credentials of sources: Secrets that a spec names, and the files that a pod finds them in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel

SECRET_DIRECTORY = "/mnt/secrets"
HUB_TOKEN = "HF_TOKEN"
# Of an OpenAI-compatible endpoint, by the name of OpenAI's own environment variable.
JUDGE_KEY = "OPENAI_API_KEY"
# What a Secret for s3:// may hold, by the names of AWS's own environment variables. The last is PEM text.
S3_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)

# RFC 1123 subdomain, as names of Secrets are.
_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class SecretReference(ApiModel):
    """A Secret of the job's namespace. The pod mounts it; the operator never reads it."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=_NAME)] = Field(description="The Secret's name.")


def secret_mount_path(name: str) -> str:
    """Where a Secret is mounted in a stage's pod: a file for each key."""
    return f"{SECRET_DIRECTORY}/{name}"
