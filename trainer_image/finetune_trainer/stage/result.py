"""The stage's result: kept beside the artefacts, and handed to the operator as the termination message."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from finetune_api import termination
from finetune_api.config import RunConfig
from finetune_api.results import DatasetRevision, FailureStatus, LineageStatus, RowsRevision, StageLineage, StageResult
from finetune_api.stages import EVALUATE, Stage
from finetune_trainer import __version__
from finetune_trainer.stage.files import write_text

_PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes")
DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")
CPU = "CPU"


class ResolvedInputs(Protocol):
    """What a stage's inputs were found to be; None where there is no such thing."""

    @property
    def model_revision(self) -> str | None: ...
    @property
    def model_sha256(self) -> str | None: ...
    @property
    def adapter_revision(self) -> str | None: ...
    @property
    def adapter_sha256(self) -> str | None: ...
    @property
    def dataset_revision(self) -> str | None: ...
    @property
    def mixture_revisions(self) -> Mapping[str, str]: ...
    @property
    def dataset_sha256(self) -> str | None: ...
    @property
    def validation_dataset_sha256(self) -> str | None: ...
    @property
    def retention_dataset_sha256(self) -> str | None: ...
    @property
    def compared_reports_sha256(self) -> str | None: ...
    @property
    def evaluation_dataset_revision(self) -> str | None: ...
    @property
    def evaluation_dataset_sha256(self) -> str | None: ...
    @property
    def check_terms_sha256(self) -> str | None: ...
    @property
    def slice_revisions(self) -> Mapping[str, str]: ...
    @property
    def slice_sha256(self) -> Mapping[str, str]: ...


def stage_result(config: RunConfig, stage: Stage, sections: dict[str, Any]) -> StageResult:
    """A result of this job and spec, finished now."""
    return StageResult(
        stage=stage.name,
        job_uid=config.job.uid,
        training_sha256=config.training_sha256,
        evaluation_sha256=config.evaluation_sha256 if stage is EVALUATE else None,
        finished_at=datetime.now(UTC),
        **sections,
    )


def failed_result(config: RunConfig, stage: Stage, failure: FailureStatus) -> StageResult:
    """The result of a stage that failed."""
    return stage_result(config, stage, {"failure": failure, "stage_lineage": stage_lineage(config)})


def lineage(config: RunConfig, stage: Stage, inputs: ResolvedInputs) -> LineageStatus:
    """What the stage's artefacts were made from."""
    held_out = stage is EVALUATE
    return LineageStatus(
        model_revision=inputs.model_revision or None,
        model_sha256=inputs.model_sha256 or None,
        adapter_revision=inputs.adapter_revision or None,
        adapter_sha256=inputs.adapter_sha256 or None,
        dataset_revision=inputs.dataset_revision or None,
        mixture=[DatasetRevision(name=name, revision=one) for name, one in inputs.mixture_revisions.items()],
        dataset_sha256=inputs.dataset_sha256 or None,
        validation_dataset_sha256=inputs.validation_dataset_sha256 or None,
        retention_dataset_sha256=(inputs.retention_dataset_sha256 or None) if held_out else None,
        evaluation_dataset_revision=(inputs.evaluation_dataset_revision or None) if held_out else None,
        evaluation_dataset_sha256=(inputs.evaluation_dataset_sha256 or None) if held_out else None,
        compared_reports_sha256=(inputs.compared_reports_sha256 or None) if held_out else None,
        check_terms_sha256=(inputs.check_terms_sha256 or None) if held_out else None,
        slices=_slices(inputs) if held_out else [],
        seed=config.spec.training.seed if config.spec.dataset else None,
        training_sha256=config.training_sha256,
        evaluation_sha256=config.evaluation_sha256 if held_out else None,
    )


def _slices(inputs: ResolvedInputs) -> list[RowsRevision]:
    revisions = inputs.slice_revisions
    return [
        RowsRevision(name=name, revision=revisions.get(name), sha256=one) for name, one in inputs.slice_sha256.items()
    ]


def stage_lineage(config: RunConfig, device: str | None = None) -> StageLineage:
    """What runs the stage; ``device`` is the name of what it computes on."""
    return StageLineage(
        image=config.image or None,
        profile_sha256=config.profile_sha256,
        trainer_version=__version__,
        packages=packages(),
        device=device,
    )


def packages() -> str:
    """Versions of the libraries that decide a result's digits."""
    return " ".join(f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES)


def is_identical(result: StageResult, inputs: LineageStatus, runner: StageLineage) -> bool:
    """Whether another job's result is what this one would come to: same inputs, same software, a GPU or none alike."""
    if result.failure or result.lineage != inputs or result.stage_lineage is None:
        return False
    theirs, ours = result.stage_lineage, runner
    same_software = (theirs.image, theirs.trainer_version, theirs.packages) == (
        ours.image,
        ours.trainer_version,
        ours.packages,
    )
    return same_software and (theirs.device == CPU) == (ours.device == CPU)


def read_result(path: Path) -> StageResult | None:
    """The result that lies at a path, whosever it is; None for none, or one that is no success."""
    try:
        result = StageResult.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return None if result.failure else result


def reused(result: StageResult, config: RunConfig) -> StageResult:
    """An identical job's result as this job's own."""
    return result.model_copy(update={"job_uid": config.job.uid, "reused": True})


def write_result(path: Path, result: StageResult) -> None:
    """Writes a result beside the stage's artefacts."""
    write_text(path, result.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def write_termination_message(path: Path | None, result: StageResult) -> None:
    """Hands the result to the kubelet. ``None`` means the default place, which exists in a pod only."""
    target = path or DEFAULT_TERMINATION_LOG
    if path or target.exists():
        target.write_text(termination.encode(result))
