"""What the first attempt of a run resolved, so that retries and the evaluation work on the same things."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import ApiModel
from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.sources.hub import resolve_revision
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.run_folder import RunFolder


class RunLock(ApiModel):
    """Resolved revisions (commits; empty for pvc:// sources) and the digest of the training rows."""

    job_uid: str
    spec_sha256: str
    model_revision: str
    dataset_revision: str
    evaluation_revision: str
    dataset_sha256: str = ""


def obtain_lock(config: RunConfig, folder: RunFolder) -> RunLock:
    """The lock of this job's first attempt, or a new one with all revisions resolved now."""
    lock = _read(folder.lock)
    if lock and lock.job_uid == config.job.uid and lock.spec_sha256 == config.spec_sha256:
        return lock
    spec = config.spec
    held_out = spec.evaluation.dataset if spec.evaluation else None
    return RunLock(
        job_uid=config.job.uid,
        spec_sha256=config.spec_sha256,
        model_revision=resolve_revision(spec.model.source, spec.model.revision, "model"),
        dataset_revision=resolve_revision(spec.dataset.source, spec.dataset.revision, "dataset"),
        evaluation_revision=resolve_revision(held_out.source, held_out.revision, "dataset") if held_out else "",
    )


def fix_dataset(lock: RunLock, sha256: str, folder: RunFolder) -> RunLock:
    """Writes the lock with the digest of the training rows.

    Raises StageError (DatasetInvalid) when an earlier attempt of this job read other rows.
    """
    if lock.dataset_sha256 and lock.dataset_sha256 != sha256:
        raise StageError(
            Reason.DATASET_INVALID,
            f"the training rows changed since the first attempt (sha256 {lock.dataset_sha256[:12]} then, "
            f"{sha256[:12]} now): delete the job and apply it again",
        )
    fixed = lock.model_copy(update={"dataset_sha256": sha256})
    write_text(folder.lock, fixed.model_dump_json(by_alias=True, indent=2) + "\n")
    return fixed


def _read(path: Path) -> RunLock | None:
    try:
        return RunLock.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
