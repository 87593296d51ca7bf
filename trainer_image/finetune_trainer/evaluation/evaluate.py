"""The evaluation stage, top to bottom: inputs → base model, loaded once → comparison → report → result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_api.config import RunConfig
from finetune_api.evaluation import EvaluationSpec
from finetune_api.reasons import Reason
from finetune_api.results import MAX_ADVICE, EvaluationStatus, LineageStatus, StageResult
from finetune_api.spec_file import spec_text
from finetune_api.stages import EVALUATE
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.example import Example
from finetune_trainer.data.held_out import keep_fitting
from finetune_trainer.data.own_prompts import prompts_ids
from finetune_trainer.data.prepare import Inputs, prepare_evaluation
from finetune_trainer.evaluation.baselines import rows_advice
from finetune_trainer.evaluation.checks import checks_of
from finetune_trainer.evaluation.gates import judge as judge_gates
from finetune_trainer.evaluation.judge.status import Judged, is_judged
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics import metrics_of
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.outcome import Outcome
from finetune_trainer.evaluation.report import (
    About,
    answered_rows,
    evaluation_status,
    report_document,
    report_lines,
    rounding_advice,
    with_gates,
)
from finetune_trainer.evaluation.slice_status import few_rows_advice
from finetune_trainer.models.artefacts import finished_training
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.tuned import Tuned, given, trained
from finetune_trainer.page.writing import with_page
from finetune_trainer.sources.pins import Pins, pins_of, read_pins, write_pins
from finetune_trainer.sources.stored_report import ComparedReport, StoredReport
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError, gpu_sizes
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.progress import Pace, ProgressPusher, make_push
from finetune_trainer.stage.result import (
    is_identical,
    lineage,
    read_result,
    stage_lineage,
    stage_result,
    write_result,
)
from finetune_trainer.stage.run_folder import (
    EvaluationFolder,
    RunFolder,
    belongs,
    evaluated_folder,
    find_trained,
    open_evaluation,
)

if TYPE_CHECKING:
    from finetune_trainer.evaluation.judge.run import Judge


def evaluate(config: RunConfig, pusher: ProgressPusher | None) -> StageResult:
    """Scores base and tuned on the same held-out rows.

    A result of an earlier attempt of this job is returned at once, and that of an identical job is reused. Raises
    StageError for failures with a known reason.
    """
    evaluation = config.spec.evaluation
    if evaluation is None:
        raise StageError(Reason.INVALID_SPEC, "spec.evaluation is not set: there is nothing to evaluate")
    run_folder, training = find_run(config)
    judge = _open_judge(config) if evaluation.judge else None
    with open_evaluation(config, run_folder, lambda folder: finished_evaluation(folder, config)) as turn:
        if turn.done:
            say(f"already evaluated: {turn.folder.uri}")
            return turn.done
        inputs = prepare_evaluation(config, _earlier_pins(config, turn.earlier_lock, run_folder, training))
        made_from, runner = lineage(config, EVALUATE, inputs.pins), stage_lineage(config, inputs.device.name)
        if reused := turn.reuse(lambda one: is_identical(one, made_from, runner) and is_judged(one)):
            return reused
        folder = turn.folder
        write_pins(folder.lock, inputs.pins)
        write_text(folder.spec, spec_text(config.spec))  # the run's own may ask for another evaluation
        final_loss = training.training.final_loss if training and training.training else None
        tuned = find_tuned(config, inputs, run_folder)
        if judge:
            judge.probe()  # before the GPU's time is spent
        outcome, dropped = score(config, evaluation, inputs, tuned, _progress(pusher, final_loss))
        judged = judge.judge(answered_rows(outcome)) if judge else None

        turn.confirm()
        about = About(dropped, inputs.shared)
        metrics = [*metrics_of(evaluation.metrics), *checks_of(evaluation.checks, inputs.terms)]
        status = _write_report(folder, outcome, config, metrics, about, made_from, inputs.compared, judged)
        advice = [
            *inputs.advice,
            *tuned.advice,
            *rows_advice(outcome.examples),
            *rounding_advice(outcome),
            *few_rows_advice(outcome.slices),
            *(judged.advice if judged else []),
        ][:MAX_ADVICE]
        sections = {"evaluation": status, "lineage": made_from, "stage_lineage": runner, "advice": advice}
        result = with_page(folder, stage_result(config, EVALUATE, sections))
        write_result(folder.result, result)
        return result


def find_run(config: RunConfig) -> tuple[RunFolder, StageResult | None]:
    """The folder that the evaluation lies in, and the result of this job's training; None where nothing is trained.

    Raises StageError (EvaluationFailed) when what was trained isn't whole.
    """
    if config.spec.dataset is None:
        return evaluated_folder(config), None
    found = find_trained(config, lambda folder: finished_training(folder, config))
    if found is None:
        raise StageError(
            Reason.EVALUATION_FAILED,
            f"there is no whole adapter or model of this job's training in {config.spec.output.destination}: it is "
            "missing, damaged or of another spec",
            "train first, with the same spec",
        )
    return found


def find_tuned(config: RunConfig, inputs: Inputs, run_folder: RunFolder) -> Tuned:
    """What is scored beside the base model. Raises StageError for an adapter that can't be read or doesn't fit."""
    if config.spec.dataset is None:
        return given(inputs.model, inputs.adapter)
    return trained(config.spec, run_folder, inputs.model, inputs.device)


def _open_judge(config: RunConfig) -> Judge | None:
    from finetune_trainer.evaluation.judge.run import open_judge  # its client takes a second to import

    return open_judge(config)


def finished_evaluation(folder: EvaluationFolder, config: RunConfig) -> StageResult | None:
    """The result of this spec's evaluation in a folder, whichever job it is of, if its report is there."""
    result = read_result(folder.result)
    return result if result and belongs(result, config) and folder.report.is_file() else None


def _earlier_pins(config: RunConfig, lock: Path, run_folder: RunFolder, training: StageResult | None) -> Pins | None:
    """What this job resolved before, or what its training was made from where that is another job's."""
    uid, digest = config.job.uid, config.training_sha256
    for path in (lock, run_folder.lock):
        if pins := read_pins(path, uid, digest):
            return pins
    return pins_of(training.lineage, uid, digest) if training and training.lineage else None


def score(
    config: RunConfig,
    evaluation: EvaluationSpec,
    inputs: Inputs,
    tuned: Tuned,
    on_scored: Callable[[int, int], None],
) -> tuple[Outcome, int]:
    """Base against tuned, on inputs that were found. Writes nothing.

    Returns the outcome, and how many held-out rows were left out because they exceed the model's context. ``on_scored``
    gets rows scored so far, and of how many. Raises StageError (EvaluationFailed, ModelNotFound, InvalidSpec).
    """
    from torch import OutOfMemoryError  # like PEFT and transformers, it takes seconds to import

    from finetune_trainer.evaluation.comparison import Contestants, compare
    from finetune_trainer.models.loading import context_of, load_config, load_tokenizer

    method = METHODS[config.spec.method]
    settings = load_config(inputs.model)
    tokenizer = load_tokenizer(tuned.tokenizer)
    context = context_of(settings)
    longest = config.spec.model.max_sequence_length
    chat = read_chat_format(tokenizer, config.spec.model, settings.get_text_config().vocab_size)
    loss_on, window = config.spec.training.loss_on, min(context or longest, longest)
    prompts_ids(evaluation.prompts or (), chat, context)  # refused before the weights are loaded
    examples, dropped = keep_fitting(inputs.rows.examples, chat, context, loss_on)
    if dropped:
        say(f"{dropped} of {len(inputs.rows.examples)} held-out rows are longer than the model's context of {context}")
    say(f"loading {inputs.model.name} {method.precision}")
    try:
        base = method.load(inputs.model, inputs.device)
        contestants = Contestants(base, tuned.attach, chat, inputs.device, context, tuned.merge)
        retention: list[Example] = []
        if inputs.retention:
            retention, unfit = keep_fitting(inputs.retention.examples, chat, context, loss_on)
            if unfit:
                say(f"{unfit} of {len(inputs.retention.examples)} retention rows are longer than the model's context")
        slices = {}
        for name, rows in inputs.slices.items():
            slices[name], unfit = keep_fitting(rows.examples, chat, context, loss_on, f"rows of slice {name}")
            if unfit:
                say(f"slice {name}: {unfit} of {len(rows.examples)} rows are longer than the model's context")
        found = compare(contestants, examples, evaluation, on_scored, window, loss_on, retention, slices)
        return found, dropped
    except OutOfMemoryError as error:
        # Not OutOfMemory, whose advice is for training.
        raise StageError(
            Reason.EVALUATION_FAILED,
            f"GPU memory ran out, even with one held-out row at a time: {gpu_sizes(error)}",
            "take a GPU with more memory, or shorten the held-out rows and their options",
        ) from error


def _write_report(
    folder: EvaluationFolder,
    outcome: Outcome,
    config: RunConfig,
    metrics: list[Metric[Any]],
    about: About,
    made_from: LineageStatus,
    compared: Mapping[str, ComparedReport],
    judged: Judged | None,
) -> EvaluationStatus:
    evaluation = config.spec.evaluation
    assert evaluation, "an evaluation was scored"
    measured = [measure(metric, outcome) for metric in metrics]
    status = evaluation_status(outcome, measured, about, folder.report_uri)
    if judged:
        status = status.model_copy(update={"judge": judged.status})
    job = {"namespace": config.job.namespace, "name": config.job.name}
    document = report_document(outcome, measured, about, status, {"job": job, **made_from.to_api()})
    if evaluation.gates:
        # By what the report says, as anybody could who has it.
        stored, seed = StoredReport.model_validate(document), config.spec.training.seed
        gates = judge_gates(evaluation.gates, stored, compared, seed, metrics)
        status = status.model_copy(update={"gates": [one.status for one in gates]})
        document = with_gates(document, status, gates)
    if judged:
        document["judge"] = judged.document
    for line in report_lines(outcome, status):
        say(line)
    write_text(folder.report, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return status


def _progress(pusher: ProgressPusher | None, final_loss: str | None) -> Callable[[int, int], None]:
    """Reports rows scored. The training's last loss travels along, so that the LOSS column keeps it."""
    pace = Pace(0)
    metrics = {"loss": final_loss} if final_loss else {}

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if pusher:
            pusher.push(done, make_push(done, total, pace.remaining_seconds(done, total, now), metrics))

    return report
