"""Reads what a run's folder and an evaluation's folder inside it say, into models. What is missing is None."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_api.base import first_problem
from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_api.run_folder import DATASET, EVALUATIONS, METRICS, REPORT, RESULT, SPEC
from finetune_api.spec_file import read_spec
from finetune_api.stages import EVALUATE, TRAIN
from finetune_trainer.page.documents import AskedFor, Dataset, Report, Step, report_of
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.result import read_result


@dataclass(frozen=True)
class Inputs:
    """All that a page is made from. A page is a function of this alone."""

    report: Report
    result: StageResult | None = None  # of the evaluation
    training: StageResult | None = None
    steps: list[Step] = field(default_factory=list)
    dataset: Dataset | None = None
    spec: dict[str, Any] | None = None  # with defaults filled in
    asked: AskedFor | None = None

    @property
    def job(self) -> str:
        """The job's name; that of nothing where the report is of an earlier version."""
        return self.report.job.name if self.report.job else ""


def read_inputs(folder: Path, result: StageResult | None = None) -> Inputs:
    """What an evaluation's folder says, and the run's that it lies in.

    ``result`` is that of an evaluation which has not written it yet. Raises StageError (EvaluationFailed) for a
    report.json that is missing or can't be read.
    """
    report = _read_report(folder / REPORT)
    run = folder.parent.parent if folder.parent.name == EVALUATIONS else folder
    ours = result or _of_stage(folder / RESULT, EVALUATE.name)
    training = _of_stage(run / RESULT, TRAIN.name)
    if training and ours and training.training_sha256 != ours.training_sha256:
        training = None
    spec = _read_spec(folder / SPEC) or _read_spec(run / SPEC)
    return Inputs(
        report=report,
        result=ours,
        training=training,
        steps=list(_read_steps(run / METRICS)) if training else [],
        dataset=_read_dataset(run / DATASET) if training else None,
        spec=spec,
        asked=_asked(spec),
    )


def _read_report(file: Path) -> Report:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            document = {}
        document.pop("rows", None)  # the page shows none, and they are most of the file
        return report_of(_encodable(document))
    except OSError as error:
        problem = str(error.strerror or error)
    except ValidationError as error:
        problem = first_problem(error, "evaluation")
    except ValueError:
        problem = "it is no JSON"
    except RecursionError:
        problem = "it is nested too deeply"
    raise StageError(Reason.EVALUATION_FAILED, f"can't read {file}: {problem}", "restore the file, or evaluate anew")


def _encodable(value: Any) -> Any:
    """The same without lone surrogates, which JSON may hold and no file in UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, list) else value


def _of_stage(file: Path, stage: str) -> StageResult | None:
    result = read_result(file)
    return result if result and result.stage == stage else None


def _read_steps(file: Path) -> Iterator[Step]:
    """The lines of metrics.jsonl; one that was torn by a kill is passed over."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    yield Step.model_validate_json(line)
                except ValidationError:
                    continue
    except OSError:
        return


def _read_dataset(file: Path) -> Dataset | None:
    try:
        return Dataset.model_validate(_encodable(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError):
        return None


def _read_spec(file: Path) -> dict[str, Any] | None:
    try:
        return read_spec(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _asked(spec: dict[str, Any] | None) -> AskedFor | None:
    try:
        return AskedFor.model_validate(spec)
    except ValidationError:
        return None
