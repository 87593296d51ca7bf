"""All that can fail before the model is loaded: checked first, so that a mistake costs seconds."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.config import RunConfig
from finetune_api.results import Advice
from finetune_trainer.data.load import Rows, load_examples, shared_examples
from finetune_trainer.sources.dataset import DatasetSource
from finetune_trainer.sources.locate import Sources, locate
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.sources.pins import Pins, check_unchanged
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device, find_device


@dataclass(frozen=True)
class Inputs:
    """What a stage works on."""

    device: Device
    model: ModelSource
    rows: Rows  # to train on, or held out to evaluate
    held_out: Rows | None  # of a training whose job has an evaluation
    pins: Pins
    shared: int  # held-out rows whose question is among the training rows
    advice: list[Advice]


def prepare_training(config: RunConfig, earlier: Pins | None) -> Inputs:
    """Finds device, model and rows. The held-out rows are read, too: better now than at the end. Writes nothing.

    ``earlier`` is what an earlier attempt of this job resolved: it is obeyed. Raises StageError for whatever is
    missing, wrong or no longer the same.
    """
    device, sources = _find(config, earlier)
    rows = load_examples(sources.training, config.spec.dataset)
    say(f"rows: {len(rows.examples)} from {rows.name}")
    pins = _pins(config, sources, earlier).model_copy(update={"dataset_sha256": rows.sha256})
    held_out, shared = None, 0
    if sources.held_out:
        held_out = _load_held_out(config, sources.held_out)
        shared = shared_examples(rows, held_out, sources.held_out.field)
        pins = pins.model_copy(update={"evaluation_dataset_sha256": held_out.sha256, "shared_examples": shared})
    check_unchanged(earlier, pins)
    return Inputs(device, sources.model, rows, held_out, pins, shared, _advice(shared, held_out))


def prepare_evaluation(config: RunConfig, earlier: Pins | None) -> Inputs:
    """Finds device, model and held-out rows. Writes nothing.

    ``earlier`` is what the training resolved: it is obeyed. Raises StageError for whatever is missing, wrong or no
    longer the same.
    """
    device, sources = _find(config, earlier)
    assert sources.held_out, "the evaluation stage runs only for a spec with an evaluation"
    rows = _load_held_out(config, sources.held_out)
    pins = _pins(config, sources, earlier).model_copy(update={"evaluation_dataset_sha256": rows.sha256})
    shared = _known_shared(earlier, pins)
    if shared is None:  # the training was another job's, which had other held-out rows or none
        training = load_examples(sources.training, config.spec.dataset)
        shared = shared_examples(training, rows, sources.held_out.field)
    pins = pins.model_copy(update={"shared_examples": shared})
    check_unchanged(earlier, pins)
    return Inputs(device, sources.model, rows, None, pins, shared, _advice(shared, rows))


def _find(config: RunConfig, earlier: Pins | None) -> tuple[Device, Sources]:
    device = find_device(config.spec.runtime.gpus_per_node, config.spec.model)
    say(f"device: {device.name}")
    return device, locate(config, earlier)


def _load_held_out(config: RunConfig, source: DatasetSource) -> Rows:
    rows = load_examples(source, config.spec.dataset)
    say(f"held-out rows: {len(rows.examples)} from {rows.name}")
    return rows


def _pins(config: RunConfig, sources: Sources, earlier: Pins | None) -> Pins:
    return Pins(
        job_uid=config.job.uid,
        training_sha256=config.training_sha256,
        evaluation_sha256=config.evaluation_sha256,
        model_revision=sources.model.revision,
        model_sha256=sources.model.sha256,
        dataset_revision=sources.training.commit or None,
        dataset_sha256=earlier.dataset_sha256 if earlier else None,
        evaluation_dataset_revision=(sources.held_out.commit or None) if sources.held_out else None,
    )


def _known_shared(earlier: Pins | None, now: Pins) -> int | None:
    if earlier is None or earlier.evaluation_sha256 != now.evaluation_sha256:
        return None
    return earlier.shared_examples


def _advice(shared: int, held_out: Rows | None) -> list[Advice]:
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
