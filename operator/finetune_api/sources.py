"""Everything that a spec reads, in one list: what is mounted, where it lies, and whose credentials it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune_api.defaults import ResolvedSpec
from finetune_api.stages import EVALUATE, Stage
from finetune_api.uris import ClaimPath, parse_claim, parse_source


@dataclass(frozen=True)
class SourceReference:
    """A source that a spec names."""

    field: str  # of the spec, such as spec.dataset.source
    uri: str
    secret: str | None  # name of the Secret with its credentials


def sources_of(spec: ResolvedSpec) -> list[SourceReference]:
    """The sources of model, adapter, and all rows: to train on, to validate, held out. In the order of the spec."""
    dataset = spec.dataset
    validation = dataset.validation if dataset else None
    retention = spec.evaluation.retention if spec.evaluation else None
    slices = (spec.evaluation.slices if spec.evaluation else None) or []
    found: list[tuple[str, Any]] = [
        ("spec.model", spec.model),
        *([("spec.model.adapter", spec.model.adapter)] if spec.model.adapter else []),
        *([("spec.dataset", dataset)] if dataset else []),
        *((f"spec.dataset.mixture[{one.name}]", one) for one in (dataset.mixture if dataset else [])),
        *([("spec.dataset.replay", dataset.replay)] if dataset and dataset.replay else []),
        *([("spec.dataset.validation", validation)] if validation and validation.source else []),
        *([("spec.evaluation.dataset", spec.evaluation.dataset)] if spec.evaluation else []),
        *([("spec.evaluation.retention", retention)] if retention else []),
        *((f"spec.evaluation.slices[{one.name}].dataset", one.dataset) for one in slices if one.dataset),
    ]
    return [
        SourceReference(f"{field}.source", one.source, one.secret_ref.name if one.secret_ref else None)
        for field, one in found
    ]


def reports_read(spec: ResolvedSpec) -> dict[str, str]:
    """Fields of gates that compare with an earlier evaluation, and the pvc:// URIs of the reports that they name."""
    gates = (spec.evaluation.gates if spec.evaluation else None) or []
    return {
        f"spec.evaluation.gates[{place}].notWorseThan.report": gate.not_worse_than.report
        for place, gate in enumerate(gates)
        if gate.not_worse_than
    }


def terms_read(spec: ResolvedSpec) -> dict[str, str]:
    """Checks whose terms lie in a file, by their names, and the pvc:// URIs of these files."""
    checks = (spec.evaluation.checks if spec.evaluation else None) or []
    return {one.name: one.terms_from.source for one in checks if one.terms_from and one.terms_from.source}


def claims_read(spec: ResolvedSpec) -> list[str]:
    """The PersistentVolumeClaims that a spec reads, each once, in the order of the spec."""
    reports = (parse_claim(uri).claim for uri in reports_read(spec).values())
    terms = (parse_claim(uri).claim for uri in terms_read(spec).values())
    return list(dict.fromkeys([*_claims(spec), *reports, *terms]))


def claims_written(spec: ResolvedSpec) -> list[str]:
    """The PersistentVolumeClaims that a run writes to: its output's, and that of its checkpoints."""
    output = parse_claim(spec.output.destination).claim
    return list(dict.fromkeys([output, spec.training.checkpoint.claim_name or output]))


def secrets_read(spec: ResolvedSpec, stage: Stage) -> list[str]:
    """The Secrets that a stage of a spec reads, each once. That of a judge is the evaluation's alone."""
    tracking = spec.tracking
    judge = spec.evaluation.judge if spec.evaluation and stage is EVALUATE else None
    trackers = [tracking.mlflow, tracking.wandb] if tracking else []
    return list(
        dict.fromkeys(
            [
                *(one.secret for one in sources_of(spec) if one.secret),
                *(one.secret_ref.name for one in [*trackers, judge] if one and one.secret_ref),
            ]
        )
    )


def _claims(spec: ResolvedSpec) -> Iterator[str]:
    for one in sources_of(spec):
        location = parse_source(one.uri)
        if isinstance(location, ClaimPath):
            yield location.claim
