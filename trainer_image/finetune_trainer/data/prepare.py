"""All that can fail before the model is loaded: checked first, so that a mistake costs seconds."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.base import cut
from finetune_api.config import RunConfig
from finetune_api.mixture import MAIN
from finetune_api.reasons import Reason
from finetune_api.results import Advice
from finetune_trainer.data.load import Rows, check_overlap, find_overlap, load_examples
from finetune_trainer.sources.locate import HELD_OUT, Sources, locate
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.sources.pins import Pins, check_unchanged
from finetune_trainer.sources.stored_report import ComparedReport, digest_of, read_compared
from finetune_trainer.sources.terms import Terms, read_terms, sha256_of_terms
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device, find_device
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class TrainingInputs:
    """What a training works on, but for its rows, which :func:`finetune_trainer.data.prepared.prepare_rows` gives."""

    device: Device
    sources: Sources
    held_out: Rows | None  # of a job with an evaluation
    pins: Pins


@dataclass(frozen=True)
class Inputs:
    """What an evaluation works on."""

    device: Device
    model: ModelSource
    adapter: ModelSource | None  # of spec.model
    rows: Rows
    retention: Rows | None
    pins: Pins
    shared: int | None  # held-out rows whose question is among the training rows; None: those are not known
    terms: Terms  # of checks whose terms lie in a file
    advice: list[Advice]
    compared: dict[str, ComparedReport]  # earlier reports that gates compare with, by URI
    slices: dict[str, Rows]  # those with rows of their own, by name


def prepare_training(config: RunConfig, earlier: Pins | None) -> TrainingInputs:
    """Finds device, model and rows. The held-out rows and the terms of checks are read, too: better now than at the
    end. Writes nothing.

    ``earlier`` is what an earlier attempt of this job resolved: it is obeyed. Raises StageError for whatever is
    missing, wrong or no longer the same.
    """
    device, sources = _find(config, earlier)
    held_out = load_held_out(config, sources)
    load_compared(config, held_out)
    read_terms(config)
    pins = _pins(config, sources, earlier)
    if held_out:
        digests = {name: rows.sha256 for name, rows in load_slices(config, sources).items()}
        found = {"evaluation_dataset_sha256": held_out.sha256, "slice_sha256": digests}
        pins = pins.model_copy(update=found)
    check_unchanged(earlier, pins)
    return TrainingInputs(device, sources, held_out, pins)


def prepare_evaluation(config: RunConfig, earlier: Pins | None) -> Inputs:
    """Finds device, model and held-out rows. Writes nothing.

    ``earlier`` is what the training resolved: it is obeyed. Raises StageError for whatever is missing, wrong or no
    longer the same.
    """
    device, sources = _find(config, earlier)
    rows = load_held_out(config, sources)
    assert rows, "the evaluation stage runs only for a spec with an evaluation"
    compared = load_compared(config, rows)
    evaluation = config.spec.evaluation
    retention = None
    if sources.retention and evaluation and evaluation.retention:
        retention = load_examples(sources.retention, evaluation.retention)
        say(f"retention rows: {len(retention.examples)} from {retention.name}")
    terms, slices = read_terms(config), load_slices(config, sources)
    found = {
        "check_terms_sha256": sha256_of_terms(terms),
        "slice_sha256": {name: one.sha256 for name, one in slices.items()},
        "evaluation_dataset_sha256": rows.sha256,
        "retention_dataset_sha256": retention.sha256 if retention else None,
        "compared_reports_sha256": digest_of(compared),
    }
    pins = _pins(config, sources, earlier).model_copy(update=found)
    shared = _known_shared(earlier, pins)
    if shared is None and sources.training:  # the training was another job's, which had other held-out rows or none
        shared = _count_shared(config, sources, rows)
    pins = pins.model_copy(update={"shared_examples": shared})
    check_unchanged(earlier, pins)
    advice = shared_advice(shared, rows)
    return Inputs(
        device, sources.model, sources.adapter, rows, retention, pins, shared, terms, advice, compared, slices
    )


def load_held_out(config: RunConfig, sources: Sources) -> Rows | None:
    """The held-out rows of a job with an evaluation, with the columns that they are sliced by.

    Raises StageError (DatasetInvalid) for a malformed row, and for a column in which no row has a value.
    """
    if not sources.held_out or not config.spec.evaluation:
        return None
    columns = {one.name: one.column for one in config.spec.evaluation.slices or () if one.column}
    rows = load_examples(sources.held_out, config.spec.evaluation.dataset, list(columns.values()))
    say(f"held-out rows: {len(rows.examples)} from {rows.name}")
    for name, column in columns.items():
        if all(example.labels[column] is None for example in rows.examples):
            raise StageError(
                Reason.DATASET_INVALID,
                f"no row of {rows.name} has a value in the column {cut(column, 60)!r} that "
                f"spec.evaluation.slices[{name}].column names",
                "name the right column, or leave the slice out",
            )
    return rows


def load_compared(config: RunConfig, held_out: Rows | None) -> dict[str, ComparedReport]:
    """The reports that gates compare with, by URI: read before anything is computed.

    Raises StageError (InvalidSpec) for one that can't be read, or that has nothing in common with the held-out rows.
    """
    compared = read_compared(config)
    scored = {example.sha256 for example in held_out.examples} if held_out else set()
    for gate in (config.spec.evaluation.gates if config.spec.evaluation else None) or []:
        if gate.not_worse_than is None:
            continue
        found = compared[gate.not_worse_than.report]
        shared = [row for row in found.report.rows if row.sha256 in scored]
        if not shared:
            raise found.refuse(f"none of its {len(found.report.rows):,} rows is among the held-out rows")
        if not any(row.seen("tuned", gate.metric) for row in shared):
            raise found.refuse(f"it has no {gate.metric} of a tuned model on these rows")
        say(f"compared with {found.uri}: {len(shared):,} of {len(scored):,} held-out rows are in it")
    return compared


def load_slices(config: RunConfig, sources: Sources) -> dict[str, Rows]:
    """The rows of slices that have some of their own, by name. Raises StageError (DatasetInvalid) as for held-out."""
    found = {}
    for one in (config.spec.evaluation.slices or ()) if config.spec.evaluation else ():
        if one.dataset:
            found[one.name] = load_examples(sources.slices[one.name], one.dataset)
            say(f"slice {one.name}: {len(found[one.name].examples)} rows from {found[one.name].name}")
    return found


def shared_advice(shared: int | None, held_out: Rows | None) -> list[Advice]:
    """What to know about held-out rows whose question is among the training rows."""
    if not shared or held_out is None:
        return []
    return [
        Advice(
            reason="SharedQuestions",
            message=f"{shared} of {len(held_out.examples)} held-out rows ask what a training row asks, so that the "
            "tuned model has seen them and its score is too good: name another split, or take them out of the "
            "training rows",
        )
    ]


def _find(config: RunConfig, earlier: Pins | None) -> tuple[Device, Sources]:
    device = find_device(config.spec.runtime.gpus_per_node, config.spec.model)
    say(f"device: {device.name}")
    return device, locate(config, earlier)


def _pins(config: RunConfig, sources: Sources, earlier: Pins | None) -> Pins:
    commits = sources.commits
    return Pins(
        job_uid=config.job.uid,
        training_sha256=config.training_sha256,
        evaluation_sha256=config.evaluation_sha256,
        model_revision=sources.model.revision,
        model_sha256=sources.model.sha256,
        adapter_revision=sources.adapter.revision if sources.adapter else None,
        adapter_sha256=sources.adapter.sha256 if sources.adapter else None,
        dataset_revision=commits.pop(MAIN, None),
        dataset_sha256=earlier.dataset_sha256 if earlier else None,
        validation_dataset_sha256=earlier.validation_dataset_sha256 if earlier else None,
        retention_dataset_sha256=earlier.retention_dataset_sha256 if earlier else None,
        evaluation_dataset_revision=commits.pop(HELD_OUT, None),
        mixture_revisions=commits,
        slice_revisions=sources.slice_commits,
    )


def _known_shared(earlier: Pins | None, now: Pins) -> int | None:
    if earlier is None or earlier.evaluation_sha256 != now.evaluation_sha256:
        return None
    return earlier.shared_examples


def _count_shared(config: RunConfig, sources: Sources, held_out: Rows) -> int:
    found = find_overlap(config.spec.training_rows, sources.training, held_out)
    check_overlap(found, held_out, config.spec.training_rows.filters)
    return found.exact
