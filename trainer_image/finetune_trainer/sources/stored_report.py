"""What an evaluation's report.json says of each row, read as a model: one of our own, or somebody's on a claim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune_api.base import first_problem, sha256_of
from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.run_folder import REPORT
from finetune_api.sources import reports_read
from finetune_api.uris import parse_claim
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import sha256_of_file

_ADVICE = "name the report.json of a finished evaluation, or its folder"
# What a metric keeps of a row, by the metric's name.
Seen = dict[str, dict[str, Any]]


class _Part(BaseModel):
    """What was seen of a row, or of a part of it, by model."""

    model_config = ConfigDict(extra="ignore")

    base: Seen = {}
    tuned: Seen = {}

    def of(self, side: str) -> Seen:
        return self.base if side == "base" else self.tuned


class StoredRow(_Part):
    """A row of a report: scored as a whole, or in responses or windows."""

    sha256: Annotated[str, Field(max_length=128)]
    responses: list[_Part] = []
    windows: list[_Part] = []

    def seen(self, side: str, metric: str) -> list[dict[str, Any]]:
        """What a metric kept of a model (base or tuned): one entry for each part that counts in it."""
        parts = self.responses or self.windows or [self]
        return [part.of(side)[metric] for part in parts if metric in part.of(side)]


class StoredReport(BaseModel):
    """The rows of a report."""

    model_config = ConfigDict(extra="ignore")

    rows: list[StoredRow]
    retention_rows: list[StoredRow] = Field(default=[], alias="retentionRows")


@dataclass(frozen=True)
class ComparedReport:
    """An earlier evaluation's report that a gate compares with."""

    field: str  # of the spec
    uri: str
    sha256: str  # of the file
    report: StoredReport

    def refuse(self, problem: str) -> StageError:
        """What to raise for a report that nothing can be compared with."""
        return StageError(Reason.INVALID_SPEC, f"{self.field} {self.uri}: {problem}", _ADVICE)


def read_compared(config: RunConfig) -> dict[str, ComparedReport]:
    """The reports that a spec's gates compare with, by URI.

    Raises StageError (InvalidSpec) for one that is not there or can't be read.
    """
    return {uri: _read(config, field, uri) for field, uri in reports_read(config.spec).items()}


def digest_of(reports: dict[str, ComparedReport]) -> str | None:
    """One digest of the reports; None without any."""
    return sha256_of(sorted([one.uri, one.sha256] for one in reports.values())) if reports else None


def _read(config: RunConfig, field: str, uri: str) -> ComparedReport:
    def refuse(problem: str) -> StageError:
        return StageError(Reason.INVALID_SPEC, f"{field} {uri}: {problem}", _ADVICE)

    try:
        path = config.local_path(parse_claim(uri))
    except ValueError as error:
        raise refuse(str(error)) from error
    file = next(_files(path), None)
    if file is None:
        raise refuse(f"there is no {REPORT}" if path.is_dir() else "it is not there")
    try:
        report = StoredReport.model_validate(json.loads(file.read_bytes()))
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise refuse(f"is no evaluation's report: {first_problem(error)}") from error
    except (ValueError, RecursionError) as error:
        raise refuse("is no evaluation's report: it is no JSON") from error
    return ComparedReport(field, uri, sha256_of_file(file), report)


def _files(path: Path) -> Iterator[Path]:
    for file in (path, path / REPORT):
        if file.is_file():
            yield file
