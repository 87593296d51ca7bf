"""A run without a cluster: a FineTuneJob's YAML file and folders in place of its claims."""

from __future__ import annotations

import uuid
from pathlib import Path

import yaml
from pydantic import ValidationError

from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.job import FineTuneJob
from finetune_api.reasons import Reason
from finetune_trainer.stage.config import describe
from finetune_trainer.stage.failure import StageError


def local_config(file: Path, mounts: list[str]) -> RunConfig:
    """Builds the run configuration that the operator would write.

    ``mounts`` are ``CLAIM=FOLDER``. Raises StageError (InvalidSpec) for a file that is no FineTuneJob, with unknown
    fields refused.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        job = FineTuneJob.model_validate(document, extra="forbid")
    except (OSError, yaml.YAMLError) as error:
        raise StageError(Reason.INVALID_SPEC, f"can't read {file}: {error}") from error
    except ValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{file}: {describe(error)}") from error
    spec_sha256 = job.spec.sha256()
    return RunConfig(
        # The same file gives the same UID, so that a finished run is found again.
        job=JobReference(
            namespace=job.metadata.namespace,
            name=job.metadata.name,
            uid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job.metadata.name}/{spec_sha256}")),
        ),
        spec=job.spec.resolved(),
        spec_sha256=spec_sha256,
        mounts=[_mount(text) for text in mounts],
    )


def _mount(text: str) -> ClaimMount:
    claim, separator, folder = text.partition("=")
    if not separator or not claim or not Path(folder).is_dir():
        raise StageError(Reason.INVALID_SPEC, f"--mount {text}: must be CLAIM=FOLDER, with a folder that exists")
    return ClaimMount(claim=claim, path=str(Path(folder).resolve()))
