"""A FineTuneJob as the API server has it, read so that a spec we can't understand is told to its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from finetune_api.job import ObjectMeta
from finetune_api.results import Stage
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus
from finetune_operator.runtime.messages import first_problem

Key = tuple[str, str]  # namespace, name


@dataclass(frozen=True)
class JobObject:
    """One FineTuneJob. ``spec`` is resolved; it is None when ``problem`` says what is wrong with it."""

    metadata: ObjectMeta
    status: FineTuneJobStatus
    spec: FineTuneJobSpec | None
    problem: str = ""

    @property
    def finished(self) -> bool:
        """Whether the verdict is in: such a job never starts anything again."""
        verdict = self.status.condition("Succeeded")
        return verdict is not None and verdict.status != "Unknown"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that the spec asks for, in order."""
        return ("Train", "Evaluate") if self.spec and self.spec.evaluation else ("Train",)


def read_job(raw: dict[str, Any]) -> JobObject:
    """Parses an object from the API server.

    Raises ValidationError when metadata or status can't be read: guessing there could run a job twice.
    """
    metadata = ObjectMeta.model_validate(raw["metadata"])
    status = FineTuneJobStatus.model_validate(raw.get("status") or {})
    try:
        spec = FineTuneJobSpec.model_validate(raw.get("spec") or {}).resolved()
    except ValidationError as error:
        return JobObject(metadata, status, None, first_problem(error, "spec"))
    return JobObject(metadata, status, spec)
