"""What the files of a run's folder are read into for the page. What a file lacks, or says in another form, is None."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from finetune_api.base import ApiModel
from finetune_api.results import DatasetStatus, EvaluationStatus, MetricStatus, Text

T = TypeVar("T")
MAX_LETTERS = 64
_MAX_ENTRIES = 256


def _finite(value: Any) -> Any:
    """metrics.jsonl has what is no finite number as text."""
    try:
        return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError):
        return None


Measure = Annotated[float | None, BeforeValidator(_finite)]
Counts = dict[str, Annotated[int, Field(ge=0)]]


class Step(ApiModel):
    """A line of metrics.jsonl. None is what the line doesn't say, or no finite number."""

    step: int = Field(ge=0)
    loss: Measure = None
    learning_rate: Measure = None
    gradient_norm: Measure = None
    tokens_per_second: Measure = None
    reserved_bytes: Measure = None
    validation_loss: Measure = None
    retention_perplexity: Measure = None


class JobName(ApiModel):
    """The job that an evaluation was first of."""

    namespace: str
    name: str


class Agreement(ApiModel):
    """Batches against plain passes."""

    checked: int
    different: int
    missed: int = 0


class Chosen(ApiModel):
    """How often each letter is right, and each model chose it, by metric."""

    right: Counts = {}
    base: dict[str, Counts] = {}
    tuned: dict[str, Counts] = {}


class SampleSide(ApiModel):
    """One model's answer in words."""

    answer: str
    cut: bool = False
    names: str | None = None
    option: str | None = None
    right: bool | None = None


class Sample(ApiModel):
    """One prompt answered by both."""

    prompt: str
    expected: str = ""
    base: SampleSide | None = None
    tuned: SampleSide | None = None


class Gate(ApiModel):
    """What became of a gate."""

    metric: str
    verdict: str
    message: Text | None = None


class Slice(ApiModel):
    """The metrics of some of the rows."""

    name: str
    examples: int | None = None
    metrics: list[MetricStatus] = []


class Bin(ApiModel):
    """Rows in which a model is about equally sure of its choice."""

    rows: int = Field(ge=0)
    mean_probability: float
    share_right: float


class Calibration(ApiModel):
    """A model's bins."""

    bins: list[Bin] = []


class MostFrequent(ApiModel):
    """Always saying the letter that is right most often."""

    letter: str
    share: float


class Baselines(ApiModel):
    """What is right without a model."""

    guessing: float
    most_frequent_letter: MostFrequent | None = None


class PreparedSource(ApiModel):
    """What became of the rows of one dataset."""

    name: str
    source: str = ""
    read: int
    dropped: Counts = {}
    set_aside: int = 0
    trained: int = 0


class Dataset(ApiModel):
    """dataset.json."""

    status: DatasetStatus
    datasets: list[PreparedSource] = []
    provenance: Counts = {}
    sample: str = ""


class AskedModel(ApiModel):
    """spec.model."""

    source: str


class AskedFor(ApiModel):
    """What of a spec stands on the page."""

    method: str
    model: AskedModel


class Report(ApiModel):
    """report.json, but for its rows."""

    evaluation: EvaluationStatus
    job: JobName | None = None
    definitions: dict[str, str] = {}
    agreement: dict[str, Agreement] = {}
    chosen: Chosen | None = None
    samples: list[Sample] = []
    gates: list[Gate] = []
    slices: list[Slice] = []
    answers: dict[str, Counts] = {}
    calibration: dict[str, Calibration] = {}
    baselines: Baselines | None = None
    judge: list[tuple[str, str]] = []


def report_of(document: Mapping[str, Any]) -> Report:
    """A report from its JSON. A part in a form that isn't known is left out, as if it weren't there.

    Raises ValidationError for one without a readable ``evaluation``.
    """
    evaluation = document.get("evaluation")
    within: Mapping[str, Any] = evaluation if isinstance(evaluation, dict) else {}
    details = document.get("details")
    calibration = details.get("CalibrationError") if isinstance(details, dict) else None
    judge = document.get("judge", within.get("judge"))
    return Report(
        evaluation=EvaluationStatus.model_validate(evaluation),
        job=_part(JobName, document.get("job")),
        definitions=_part(dict[str, str], document.get("definitions")) or {},
        agreement=_part(dict[str, Agreement], document.get("agreement")) or {},
        chosen=_part(Chosen, document.get("chosen")),
        samples=_part(list[Sample], document.get("samples")) or [],
        # In report.json a gate has its criteria; the line for people stands in the evaluation.
        gates=_part(list[Gate], within.get("gates")) or _part(list[Gate], document.get("gates")) or [],
        slices=_part(list[Slice], within.get("slices")) or _part(list[Slice], document.get("slices")) or [],
        answers=_part(dict[str, Counts], document.get("answers")) or {},
        calibration=_part(dict[str, Calibration], calibration) or {},
        baselines=_part(Baselines, document.get("baselines")),
        judge=list(_leaves(judge))[:_MAX_ENTRIES],
    )


def _part(kind: type[T], value: Any) -> T | None:
    if value is None:
        return None
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of all plain values below one, such as ('tuned relevance mean', '4.2')."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{name} {key}".strip())
    elif isinstance(value, list):
        for number, one in enumerate(value, 1):
            named = isinstance(one, dict) and "name" in one
            rest = {key: inner for key, inner in one.items() if key != "name"} if named else one
            yield from _leaves(rest, f"{name} {one['name'] if named else number}".strip())
    elif value is not None:
        yield name, str(value)
