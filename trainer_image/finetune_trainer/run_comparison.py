"""Finished runs side by side: in what their specs differ, and what each came to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.results import EvaluationStatus, MetricStatus
from finetune_trainer.finished_runs import FinishedRun

_RETENTION = "retention "


@dataclass(frozen=True)
class Difference:
    """A field in which specs differ: a value for each run, None where it is absent."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs by name, and what is told of them together. Columns are in the order of the names."""

    names: tuple[str, ...]
    runs: tuple[FinishedRun, ...]
    differences: tuple[Difference, ...] | None  # of the specs; None where fewer than two are known
    notes: tuple[str, ...]

    def metrics(self) -> list[str]:
        """Names of all metrics that any run has, in the order in which they are met; of retention rows last."""
        held_out = (metric.name for run in self.runs for metric in evaluation_of(run).metrics)
        retained = (f"{_RETENTION}{metric.name}" for run in self.runs for metric in _retention_of(run))
        return list(dict.fromkeys((*held_out, *retained)))


def compare(runs: Sequence[FinishedRun]) -> Comparison:
    """Sets runs side by side. A run without spec.json has no part in the differences, which a note says."""
    names = short_names([run.folder for run in runs])
    known = [run.spec is not None for run in runs]
    specs = [run.spec for run in runs if run.spec is not None]
    found = None
    if len(specs) > 1:
        found = tuple(_with_gaps(one, known) for one in spec_differences(specs))
    return Comparison(tuple(names), tuple(runs), found, tuple(_notes(names, runs)))


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of paths: as few as tell them all apart."""
    deepest = max((len(folder.parts) for folder in folders), default=1)
    for count in range(1, deepest + 1):
        names = ["/".join(folder.parts[-count:]).replace("//", "/") for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def spec_differences(specs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The fields in which specs differ, as kubectl names them, in the order of the specs.

    A part that a spec lacks as a whole is one difference, not one for each field in it.
    """
    return list(_differ("", [dict(spec) for spec in specs]))


def evaluation_of(run: FinishedRun) -> EvaluationStatus:
    """The newest evaluation; one without metrics for a run that has none."""
    evaluation = run.evaluation.evaluation if run.evaluation else None
    return evaluation or EvaluationStatus(summary="", examples=0)


def metric_of(run: FinishedRun, name: str) -> MetricStatus | None:
    """A metric of the newest evaluation, by a name of :meth:`Comparison.metrics`."""
    if name.startswith(_RETENTION):
        return next((one for one in _retention_of(run) if f"{_RETENTION}{one.name}" == name), None)
    return evaluation_of(run).metric(name)


def _retention_of(run: FinishedRun) -> list[MetricStatus]:
    retention = evaluation_of(run).retention
    return retention.metrics if retention else []


def document(comparison: Comparison) -> dict[str, Any]:
    """The same for tools. Sizes are in bytes, times in seconds; figures that a run lacks are absent."""
    differences = comparison.differences
    return {
        "runs": [_run(name, run) for name, run in zip(comparison.names, comparison.runs, strict=True)],
        "differences": None
        if differences is None
        else [{"field": one.field, "values": list(one.values)} for one in differences],
        "notes": list(comparison.notes),
    }


def _run(name: str, run: FinishedRun) -> dict[str, Any]:
    sections = {
        "training": run.training.training,
        "memory": run.training.memory,
        "adapter": run.training.adapter,
        "model": run.training.model,
        "evaluation": run.evaluation.evaluation if run.evaluation else None,
    }
    told = {key: section.to_api() for key, section in sections.items() if section}
    told.get("evaluation", {}).pop("samples", None)
    return {"name": name, "folder": str(run.folder), **told}


def _differ(field: str, values: list[Any]) -> Iterator[Difference]:
    if all(value == values[0] for value in values):
        return
    parts = [_parts(value) for value in values]
    if any(part is None for part in parts):
        yield Difference(field, tuple(values))
        return
    known = [part for part in parts if part is not None]
    for name in dict.fromkeys(name for part in known for name in part):
        inner = name if not field or name.startswith("[") else f".{name}"
        yield from _differ(f"{field}{inner}", [part.get(name) for part in known])


def _parts(value: Any) -> dict[str, Any] | None:
    """What is inside a value, by name; None for one that is told as a whole."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {f"[{one['name']}]": one for one in value}  # a mixture
    return None


def _with_gaps(difference: Difference, known: Sequence[bool]) -> Difference:
    values = iter(difference.values)
    return Difference(difference.field, tuple(next(values) if one else None for one in known))


def _notes(names: Sequence[str], runs: Sequence[FinishedRun]) -> Iterator[str]:
    if bare := [name for name, run in zip(names, runs, strict=True) if run.spec is None]:
        yield f"without spec.json, so that nothing is told of what was asked for: {', '.join(bare)}"
    lineages = [run.evaluation.lineage for run in runs if run.evaluation]
    rows = {lineage.evaluation_dataset_sha256 for lineage in lineages if lineage}
    if len(rows) > 1:
        yield "the runs were scored on different held-out rows: their metrics can't be compared"
