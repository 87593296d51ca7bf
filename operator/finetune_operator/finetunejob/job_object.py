"""A FineTuneJob as the API server has it, read so that a spec we can't understand is told to its user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from finetune_api.base import field_path, first_problem
from finetune_api.defaults import ResolvedSpec, resolve
from finetune_api.job import ObjectMeta
from finetune_api.results import StageResult
from finetune_api.run_folder import run_folder
from finetune_api.spec import FineTuneJobSpec
from finetune_api.stages import Stage, stages_of
from finetune_api.status import FineTuneJobStatus


@dataclass(frozen=True)
class Spec:
    """What a spec asks for, with everything that follows from it. It can't change while the object exists."""

    resolved: ResolvedSpec
    stages: tuple[Stage, ...]
    training_sha256: str
    evaluation_sha256: str | None
    folder: str  # the run's, as a pvc:// URI
    gates: int = 0  # how many spec.evaluation has
    unknown: str = ""  # fields that a newer version knows and this one would pass over


@dataclass(frozen=True)
class JobObject:
    """One FineTuneJob. ``spec`` is None when ``problem`` says why this version can't read it."""

    metadata: ObjectMeta
    status: FineTuneJobStatus
    spec: Spec | None
    problem: str = field(default="")

    @property
    def finished(self) -> bool:
        """Whether the verdict is in: such a job never starts anything again."""
        return self.status.finished

    def accepts(self, stage: Stage, result: StageResult) -> bool:
        """Whether a result is this object's and this spec's, and holds what its stage promises."""
        spec = self.spec
        if spec is None or not result.belongs_to(
            stage.name, self.metadata.uid, spec.training_sha256, spec.evaluation_sha256
        ):
            return False
        if result.failure:
            return True
        if stage.name == "Train":
            return result.training is not None and (result.adapter is not None or result.model is not None)
        return result.evaluation is not None


def read_job(raw: dict[str, Any], before: JobObject | None = None) -> JobObject:
    """Parses an object from the API server. ``before`` is an earlier reading of the same object, to read less.

    Raises ValidationError when metadata or status can't be read: guessing there could run a job twice.
    """
    metadata = ObjectMeta.model_validate(raw["metadata"])
    status = FineTuneJobStatus.model_validate(raw.get("status") or {})
    if before and (before.metadata.uid, before.metadata.generation) == (metadata.uid, metadata.generation):
        return JobObject(metadata, status, before.spec, before.problem)
    try:
        return JobObject(metadata, status, read_spec(raw.get("spec") or {}))
    except ValidationError as error:
        return JobObject(metadata, status, None, first_problem(error, "spec"))


def read_spec(raw: dict[str, Any]) -> Spec:
    """Reads a spec. Raises ValidationError for one that this version can't read."""
    unknown = ""
    try:
        spec = FineTuneJobSpec.model_validate(raw, extra="forbid")
    except ValidationError as error:
        if any(one["type"] != "extra_forbidden" for one in error.errors(include_url=False)):
            raise
        unknown = ", ".join(field_path("spec", *one["loc"]) for one in error.errors(include_url=False))
        spec = FineTuneJobSpec.model_validate(raw)
    resolved = resolve(spec)
    digest = resolved.training_sha256()
    folder = str(run_folder(resolved.output.destination, digest))
    gates = len(resolved.evaluation.gates or ()) if resolved.evaluation else 0
    return Spec(resolved, stages_of(resolved), digest, resolved.evaluation_sha256(), folder, gates, unknown)
