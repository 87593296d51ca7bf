"""``spec.tracking``: where a training's course is recorded beside metrics.jsonl."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.credentials import SecretReference

# What a tracking server takes, by the environment variables of its own client.
MLFLOW_KEYS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
WANDB_KEYS = ("WANDB_API_KEY", "WANDB_BASE_URL")

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ /-]*$")]


class MLflowSpec(ApiModel):
    """MLflow."""

    uri: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s/@]+(/[^\s]*)?$")] | None = Field(
        default=None,
        description="A tracking server; user and password belong in secretRef. Left out: the run's folder, mlruns/, "
        "without a network.",
    )
    experiment: Name | None = Field(default=None, description="The experiment. Left out: the job's namespace.")
    secret_ref: SecretReference | None = Field(
        default=None,
        description="A Secret of the job's namespace with MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD.",
    )


class WandbSpec(ApiModel):
    """Weights & Biases."""

    project: Name | None = Field(default=None, description="The project. Left out: the job's namespace.")
    secret_ref: SecretReference | None = Field(
        default=None,
        description="A Secret of the job's namespace with WANDB_API_KEY, and perhaps WANDB_BASE_URL. Left out: "
        "offline, into the run's folder, wandb/, for `wandb sync`.",
    )


class TrackingSpec(ApiModel):
    """Where a training's course is recorded."""

    tensor_board: bool | None = Field(
        default=None, description="TensorBoard event files in the run's folder, tensorboard/. Default: false."
    )
    mlflow: MLflowSpec | None = Field(default=None, description="MLflow.")
    wandb: WandbSpec | None = Field(default=None, description="Weights & Biases.")
