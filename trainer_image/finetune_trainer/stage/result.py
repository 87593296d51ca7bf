"""The stage's result: kept beside the artefacts, and handed to the operator as the termination message."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_api import termination
from finetune_api.config import RunConfig
from finetune_api.results import FailureStatus, LineageStatus, Stage, StageResult
from finetune_trainer import __version__
from finetune_trainer.sources.pins import RunLock
from finetune_trainer.stage.files import write_text

_PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes")
DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")


def stage_result(config: RunConfig, stage: Stage, sections: dict[str, Any]) -> StageResult:
    """A result of this job and spec, finished now."""
    return StageResult(
        stage=stage,
        job_uid=config.job.uid,
        spec_sha256=config.spec_sha256,
        finished_at=datetime.now(UTC),
        **sections,
    )


def failed_result(config: RunConfig, stage: Stage, failure: FailureStatus) -> StageResult:
    """The result of a stage that failed."""
    return stage_result(config, stage, {"failure": failure})


def lineage(config: RunConfig, lock: RunLock, evaluation_sha256: str | None = None) -> LineageStatus:
    """What it would take to repeat the run."""
    versions = " ".join(f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES)
    return LineageStatus(
        model_revision=lock.model_revision,
        dataset_revision=lock.dataset_revision,
        dataset_sha256=lock.dataset_sha256 or None,
        evaluation_sha256=evaluation_sha256,
        image=config.image,
        profile_sha256=config.profile_sha256,
        trainer_version=__version__,
        packages=versions,
        seed=config.spec.training.seed,
        spec_sha256=config.spec_sha256,
    )


def read_result(path: Path, config: RunConfig) -> StageResult | None:
    """A result that an earlier attempt of this very job left; None for none, or one of another object or spec."""
    try:
        result = StageResult.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    is_ours = result.job_uid == config.job.uid and result.spec_sha256 == config.spec_sha256
    return result if is_ours and not result.failure else None


def write_result(path: Path, result: StageResult) -> None:
    """Writes a result beside the stage's artefacts."""
    write_text(path, result.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def write_termination_message(path: Path | None, result: StageResult) -> None:
    """Hands the result to the kubelet. ``None`` means the default place, which exists in a pod only."""
    target = path or DEFAULT_TERMINATION_LOG
    if path or target.exists():
        target.write_text(termination.encode(result))
