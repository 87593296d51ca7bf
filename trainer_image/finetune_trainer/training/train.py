"""The training stage, top to bottom: folder → inputs → rows → model → adapter → steps → memory → save → result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune_api.config import RunConfig
from finetune_api.results import (
    MAX_ADVICE,
    Advice,
    DatasetStatus,
    MemoryStatus,
    StageResult,
    TrainingStatus,
)
from finetune_api.spec_file import spec_text
from finetune_api.stages import TRAIN
from finetune_trainer.data.gate_advice import FEW_ROWS
from finetune_trainer.data.prepare import TrainingInputs, prepare_training
from finetune_trainer.data.prepared import Prepared
from finetune_trainer.data.row_report import report_lines as row_lines
from finetune_trainer.models.artefacts import finished_training, link_latest
from finetune_trainer.models.reading import ReadRows, read_rows
from finetune_trainer.sources.pins import Pins, check_unchanged, pins_in, read_pins, write_pins
from finetune_trainer.stage.console import say
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.stage.result import is_identical, lineage, stage_lineage, stage_result, write_result
from finetune_trainer.stage.run_folder import RunFolder, checkpoints_of, open_training
from finetune_trainer.training.checkpoints import Checkpoints, Identity
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.engines.base import Engine
from finetune_trainer.training.memory import (
    measure_after,
    report_lines,
)

if TYPE_CHECKING:
    from finetune_trainer.training.saving import Tuned
    from finetune_trainer.training.set_up import Ready


@dataclass(frozen=True)
class Steps:
    """The steps taken, and what is told of them."""

    tuned: Tuned
    training: TrainingStatus
    memory: MemoryStatus
    advice: list[Advice]


def train(config: RunConfig, pusher: ProgressPusher | None) -> StageResult:
    """Fine-tunes and saves what came of it.

    A whole result of an earlier attempt or of an identical job is returned at once. Raises StageError for
    failures with a known reason.
    """
    with open_training(config, lambda folder: finished_training(folder, config)) as turn:
        if turn.done:
            say(f"already trained: {turn.folder.result}")
            link_latest(turn.folder)  # a kill may have come between the result and these
            shutil.rmtree(checkpoints_of(config, turn.folder).path, ignore_errors=True)
            return turn.done
        earlier = read_pins(turn.earlier_lock, config.job.uid, config.training_sha256)
        inputs = prepare_training(config, earlier)
        engine = load_engine()  # before anything else imports its libraries
        rows, pins = _read_rows(config, inputs, earlier)
        made_from = lineage(config, TRAIN, pins)
        runner = stage_lineage(config, inputs.device.name)
        if reused := turn.reuse(lambda result: is_identical(result, made_from, runner)):
            link_latest(turn.shared)
            return _with_own_gates(_without_others_retention(reused, turn.shared, pins), rows.prepared.advice)
        folder = turn.folder
        write_pins(folder.lock, pins)
        write_text(folder.spec, spec_text(config.spec))
        dataset = _tell(rows.prepared, folder)

        checkpoint_folder = checkpoints_of(config, folder)
        checkpoints = Checkpoints(
            checkpoint_folder.path, _identity(config, pins, engine), config.spec.training.checkpoint.keep
        )

        from finetune_trainer.training.saving import save_artefacts
        from finetune_trainer.training.set_up import set_up

        # No name for what is ready: it holds on to the model, which is to be gone when artefacts are loaded back.
        steps = _take_steps(
            set_up(config, inputs, engine, rows, folder, checkpoints, pusher, turn.confirm), engine, rows, folder
        )
        turn.confirm()
        saved = save_artefacts(steps.tuned, config.spec, folder)
        sections = {
            "dataset": dataset,
            "training": steps.training,
            "memory": steps.memory,
            "adapter": saved.adapter,
            "model": saved.model,
            "lineage": made_from,
            "stage_lineage": runner,
            "advice": [*rows.prepared.advice, *steps.advice][:MAX_ADVICE],
        }
        result = stage_result(config, TRAIN, sections)
        turn.confirm()
        write_result(folder.result, result)
        link_latest(folder)
        shutil.rmtree(checkpoint_folder.path, ignore_errors=True)  # the result can't be lost any more
        return result


def _read_rows(config: RunConfig, inputs: TrainingInputs, earlier: Pins | None) -> tuple[ReadRows, Pins]:
    """The rows, and the pins with what was found of them. Raises StageError for rows that changed, too."""
    rows = read_rows(config, inputs.sources, inputs.held_out)
    found: dict[str, object] = {
        "dataset_sha256": rows.prepared.facts.sha256,
        "validation_dataset_sha256": rows.prepared.validation_sha256,
        "retention_dataset_sha256": rows.prepared.retention_sha256,
    }
    if inputs.held_out:
        found["shared_examples"] = rows.prepared.overlap.exact
    pins = inputs.pins.model_copy(update=found)
    check_unchanged(earlier, pins)
    return rows, pins


def _without_others_retention(result: StageResult, theirs: RunFolder, pins: Pins) -> StageResult:
    """An identical training's result for this job: retention rows are the evaluation's, so they may be others."""
    if not result.training or not result.training.retention:
        return result
    noted = pins_in(theirs.lock)
    if noted and noted.retention_dataset_sha256 == pins.retention_dataset_sha256:
        return result
    return result.model_copy(update={"training": result.training.model_copy(update={"retention": []})})


def _with_own_gates(result: StageResult, advice: Sequence[Advice]) -> StageResult:
    """The same: gates are the evaluation's, and so is the advice on them."""
    own, others = (
        [one for one in advice if one.reason == FEW_ROWS],
        [one for one in result.advice if one.reason != FEW_ROWS],
    )
    return result.model_copy(update={"advice": [*own, *others][:MAX_ADVICE]})


def _tell(prepared: Prepared, folder: RunFolder) -> DatasetStatus:
    """Says what became of the rows, and writes it beside the adapter."""
    status = prepared.status.model_copy(update={"report_uri": folder.dataset_uri})
    document = {**prepared.document, "status": status.to_api()}
    write_text(folder.dataset, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    for line in row_lines(document):
        say(line)
    return status


def _identity(config: RunConfig, pins: Pins, engine: Engine) -> Identity:
    """What a checkpoint must be of. The rows' digest stands for their order, too."""
    assert pins.dataset_sha256, "the rows were read"
    return Identity(
        training_sha256=config.training_sha256,
        dataset_sha256=pins.dataset_sha256,
        model_revision=pins.model_revision,
        model_sha256=pins.model_sha256,
        adapter_revision=pins.adapter_revision,
        adapter_sha256=pins.adapter_sha256,
        validation_dataset_sha256=pins.validation_dataset_sha256,
        retention_dataset_sha256=pins.retention_dataset_sha256,
        engine=engine.name,
    )


def _take_steps(ready: Ready, engine: Engine, rows: ReadRows, folder: RunFolder) -> Steps:
    from finetune_trainer.training.outcome import outcome_advice, training_status

    trained = ready.run.take_steps(ready.found)
    device = ready.tuned.device
    memory = measure_after(device, ready.memory)
    for line in report_lines(memory, trained.seconds):
        say(line)
    say(f"padding: {trained.padding:.1%} of the tokens computed")
    status = training_status(engine, ready, trained, rows.prepared.facts, folder.metrics_uri)
    return Steps(ready.tuned, status, memory, outcome_advice(ready, trained))
