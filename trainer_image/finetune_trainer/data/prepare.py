"""All that can fail before the model is loaded: checked first, so that a mistake costs seconds."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.config import RunConfig
from finetune_trainer.data.load import Rows, load_rows
from finetune_trainer.sources.model import ModelSource, find_model
from finetune_trainer.sources.pins import RunLock, fix_dataset, obtain_lock
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device, find_device
from finetune_trainer.stage.run_folder import RunFolder


@dataclass(frozen=True)
class Inputs:
    """What a stage works on: training rows, or held-out rows to evaluate."""

    device: Device
    model: ModelSource
    rows: Rows
    lock: RunLock


def prepare_training(config: RunConfig, folder: RunFolder) -> Inputs:
    """Finds device, model and rows, and writes the lock. The held-out rows are read, too: better now than at the end.

    Raises StageError for whatever is missing or wrong.
    """
    spec = config.spec
    device = find_device(spec.runtime.gpus_per_node, spec.model)
    say(f"device: {device.name}")
    lock = obtain_lock(config, folder)
    model = find_model(config, lock.model_revision)
    rows = load_rows(config, spec.dataset, lock.dataset_revision, spec.dataset.columns)
    say(f"rows: {len(rows.rows)} from {rows.name}")
    if spec.evaluation:
        held_out = load_rows(config, spec.evaluation.dataset, lock.evaluation_revision, spec.dataset.columns)
        say(f"held-out rows: {len(held_out.rows)} from {held_out.name}")
    return Inputs(device, model, rows, fix_dataset(lock, rows.sha256, folder))


def prepare_evaluation(config: RunConfig, folder: RunFolder) -> Inputs:
    """Finds device, model and held-out rows, by the training's lock. Raises StageError for what is missing or wrong."""
    spec = config.spec
    assert spec.evaluation, "the evaluation stage runs only for a spec with an evaluation"
    device = find_device(spec.runtime.gpus_per_node, spec.model)
    say(f"device: {device.name}")
    lock = obtain_lock(config, folder)
    rows = load_rows(config, spec.evaluation.dataset, lock.evaluation_revision, spec.dataset.columns)
    say(f"held-out rows: {len(rows.rows)} from {rows.name}")
    return Inputs(device, find_model(config, lock.model_revision), rows, lock)
