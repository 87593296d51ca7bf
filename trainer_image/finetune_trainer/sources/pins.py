"""What the first attempt of a run resolved, so that retries and the evaluation work on the same things."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import ApiModel
from finetune_api.reasons import Reason
from finetune_api.results import LineageStatus
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import write_text

_AGAIN = "delete the job and apply it again, which trains anew"


class Pins(ApiModel):
    """Commits of hub sources, content digests of the rest. What does not apply, or is not known yet, is absent.

    The names are those of status.lineage.
    """

    job_uid: str
    training_sha256: str
    evaluation_sha256: str | None = None  # of the evaluation that the held-out rows belong to
    model_revision: str | None = None
    model_sha256: str | None = None
    adapter_revision: str | None = None
    adapter_sha256: str | None = None
    dataset_revision: str | None = None
    dataset_sha256: str | None = None
    validation_dataset_sha256: str | None = None  # of validation rows with a source of their own
    # Of further hub datasets: by their names in the mixture, replay, or the fields of validation and retention.
    mixture_revisions: dict[str, str] = {}
    evaluation_dataset_revision: str | None = None
    evaluation_dataset_sha256: str | None = None
    retention_dataset_sha256: str | None = None
    compared_reports_sha256: str | None = None  # of the reports that gates compare with
    check_terms_sha256: str | None = None
    # Of the evaluation's slices with rows of their own, by name.
    slice_revisions: dict[str, str] = {}
    slice_sha256: dict[str, str] = {}
    shared_examples: int | None = None  # held-out rows whose question is among the training rows


def read_pins(path: Path, job_uid: str, training_sha256: str) -> Pins | None:
    """The pins in a file; None when there are none, or when they are another job's or another training's."""
    pins = pins_in(path)
    return pins if pins and (pins.job_uid, pins.training_sha256) == (job_uid, training_sha256) else None


def pins_in(path: Path) -> Pins | None:
    """The pins in a file, whosever they are; None when there are none."""
    try:
        return Pins.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def pins_of(lineage: LineageStatus, job_uid: str, training_sha256: str) -> Pins:
    """What a result says that it was made from, as pins of a job; its held-out rows count for no evaluation yet."""
    known = lineage.model_dump(include=set(Pins.model_fields) & set(LineageStatus.model_fields))
    known["mixture_revisions"] = {one.name: one.revision for one in lineage.mixture}
    known["slice_revisions"] = {one.name: one.revision for one in lineage.slices if one.revision}
    known["slice_sha256"] = {one.name: one.sha256 for one in lineage.slices}
    known |= {"job_uid": job_uid, "training_sha256": training_sha256, "evaluation_sha256": None}
    return Pins.model_validate(known)


def write_pins(path: Path, pins: Pins) -> None:
    """Writes pins in one step."""
    write_text(path, pins.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def check_unchanged(earlier: Pins | None, now: Pins) -> None:
    """Raises StageError for a model or for rows that changed since an earlier attempt or stage resolved them.

    ModelNotFound for the model, since the one that is meant is no longer there; DatasetInvalid for rows. Held-out rows
    count only for the same evaluation. What one side does not know is not compared.
    """
    if earlier is None:
        return
    _check(Reason.MODEL_NOT_FOUND, "the base model", earlier.model_sha256, now.model_sha256)
    _check(Reason.MODEL_NOT_FOUND, "the adapter of spec.model.adapter", earlier.adapter_sha256, now.adapter_sha256)
    _check(Reason.DATASET_INVALID, "the training rows", earlier.dataset_sha256, now.dataset_sha256)
    before, after = earlier.validation_dataset_sha256, now.validation_dataset_sha256
    _check(Reason.DATASET_INVALID, "the validation rows", before, after)
    if earlier.evaluation_sha256 == now.evaluation_sha256:
        before, after = earlier.evaluation_dataset_sha256, now.evaluation_dataset_sha256
        _check(Reason.DATASET_INVALID, "the held-out rows", before, after)
        before, after = earlier.retention_dataset_sha256, now.retention_dataset_sha256
        _check(Reason.DATASET_INVALID, "the retention rows", before, after)
        before, after = earlier.check_terms_sha256, now.check_terms_sha256
        _check(Reason.DATASET_INVALID, "the terms of evaluation.checks", before, after)
        for name, digest in now.slice_sha256.items():
            _check(Reason.DATASET_INVALID, f"the rows of slice {name}", earlier.slice_sha256.get(name), digest)


def _check(reason: Reason, what: str, before: str | None, after: str | None) -> None:
    if before and after and before != after:
        raise StageError(
            reason,
            f"{what} changed since the run began (sha256 {before[:12]} then, {after[:12]} now): put the former back",
            f"or {_AGAIN}",
        )
