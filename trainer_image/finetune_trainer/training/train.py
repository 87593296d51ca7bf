"""The training stage, top to bottom: folder → inputs → rows → model → adapter → steps → memory → save → result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from finetune_api.base import cut, number
from finetune_api.config import RunConfig
from finetune_api.defaults import ResolvedSpec, ResolvedTraining
from finetune_api.progress import format_duration
from finetune_api.reasons import Reason
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
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.prepare import TrainingInputs, prepare_training
from finetune_trainer.data.prepared import Prepared, check_same_tokens
from finetune_trainer.data.row_report import report_lines as row_lines
from finetune_trainer.data.tokenize import NO_RESPONSE, TOO_LONG
from finetune_trainer.models.artefacts import finished_training, link_latest
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.protocols import AdapterModel, CausalLM
from finetune_trainer.models.reading import ReadRows, read_rows
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.sources.pins import Pins, check_unchanged, read_pins, write_pins
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.interruption import INTERRUPTION
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.stage.result import is_identical, lineage, packages, stage_lineage, stage_result, write_result
from finetune_trainer.stage.run_folder import RunFolder, open_training
from finetune_trainer.stage.storage import check_room
from finetune_trainer.training.checkpoints import Checkpoint, Checkpoints, Identity, SavedPlan
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.engines.base import Engine, StepSettings
from finetune_trainer.training.memory import (
    before_lines,
    measure_after,
    measure_before,
    release_memory,
    report_lines,
    reserved_bytes,
)
from finetune_trainer.training.packing import Packing, decide_packing
from finetune_trainer.training.plan import StepPlan, optimizer_on, plan_step, shape_of, total_steps, warmup_steps
from finetune_trainer.training.reporter import StepReporter
from finetune_trainer.training.schedule import LearningRates
from finetune_trainer.training.spec_advice import bias_advice
from finetune_trainer.training.stopping import measuring_steps, retention_points, stopping_advice, stopping_of

if TYPE_CHECKING:
    from torch import Tensor

    from finetune_trainer.models.continuing import EarlierAdapter
    from finetune_trainer.models.sizes import Sizes
    from finetune_trainer.training.consolidation import Penalty
    from finetune_trainer.training.loop import Measuring, Run, Trained
    from finetune_trainer.training.saving import Tuned


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
            shutil.rmtree(turn.folder.checkpoints, ignore_errors=True)
            return turn.done
        earlier = read_pins(turn.earlier_lock, config.job.uid, config.training_sha256)
        inputs = prepare_training(config, earlier)
        engine = load_engine()  # before anything else imports its libraries
        rows, pins = _read_rows(config, inputs, earlier)
        made_from = lineage(config, TRAIN, pins)
        runner = stage_lineage(config, inputs.device.name)
        if reused := turn.reuse(lambda result: is_identical(result, made_from, runner)):
            link_latest(turn.shared)
            return reused
        folder = turn.folder
        write_pins(folder.lock, pins)
        write_text(folder.spec, spec_text(config.spec))
        dataset = _tell(rows.prepared, folder)

        checkpoints = Checkpoints(
            folder.checkpoints, _identity(config, pins, engine), config.spec.training.checkpoint.keep
        )
        steps = _take_steps(config, inputs, engine, rows, folder, checkpoints, pusher, turn.confirm)

        from finetune_trainer.training.saving import save_artefacts

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
        shutil.rmtree(folder.checkpoints, ignore_errors=True)  # the result can't be lost any more
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


def _tell(prepared: Prepared, folder: RunFolder) -> DatasetStatus:
    """Says what became of the rows, and writes it beside the adapter."""
    status = prepared.status.model_copy(update={"report_uri": folder.dataset_uri})
    document = {**prepared.document, "status": status.to_api()}
    write_text(folder.dataset, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    for line in row_lines(document):
        say(line)
    return status


def _take_steps(
    config: RunConfig,
    inputs: TrainingInputs,
    engine: Engine,
    rows: ReadRows,
    folder: RunFolder,
    checkpoints: Checkpoints,
    pusher: ProgressPusher | None,
    confirm: Callable[[], None],
) -> Steps:
    from finetune_trainer.models.adapter_targets import adapter_targets
    from finetune_trainer.models.continuing import read_adapter
    from finetune_trainer.models.initialization import Beginning, begin
    from finetune_trainer.models.loading import embedding_rows, load_config, skeleton, tokenizer_bytes
    from finetune_trainer.models.sizes import sizes_of
    from finetune_trainer.training.attention import attention_of, fix_attention
    from finetune_trainer.training.batches import Batches
    from finetune_trainer.training.loop import Run
    from finetune_trainer.training.packed_attention import prove_packing
    from finetune_trainer.training.saving import Tuned
    from finetune_trainer.training.tracking import trackers_of

    spec = config.spec
    training, device, source, method = spec.training, inputs.device, inputs.sources.model, METHODS[spec.method]
    reading, store = rows.reading, rows.prepared.store
    optimizer, tokenizer_size = optimizer_on(device, training), tokenizer_bytes(source)

    def sized(model: CausalLM) -> Sizes:
        sizes = sizes_of(model, spec)
        check_room(folder.path, sizes.room_needed(spec, optimizer, tokenizer_size), str(folder.uri))
        return sizes

    fix_attention(device)
    bare = skeleton(source, load_config(source))
    sizes = sized(bare) if bare else None
    found = checkpoints.newest()
    earlier = read_adapter(inputs.sources.adapter) if inputs.sources.adapter else None
    if earlier and spec.lora:
        earlier.check(spec.lora)

    fisher = _fisher(spec, source, rows, device, earlier)
    release_memory(device)  # what is free decides how a step is split
    say(f"loading {source.name} {method.precision}")
    base, tokenizer = engine.load_base(source, reading.limit, device, method)
    sizes = sizes or sized(base)
    chat = read_chat_format(tokenizer, spec.model, embedding_rows(base))
    check_same_tokens(rows.prepared.facts, store, replace(reading, chat=chat))

    plan = plan_step(training, shape_of(base), store.longest, _free_bytes(device))
    if found:
        saved = found.state.plan
        plan = replace(plan, micro_batch=saved.micro_batch, checkpointing=saved.checkpointing)
    say(_describe(plan))
    if optimizer != training.optimizer:
        say(f"optimizer: {optimizer} in place of {training.optimizer}, which needs a GPU")
    total = total_steps(training, len(store))
    warmup, warmup_advice = warmup_steps(training, total)
    if spec.lora:
        layers = sorted({name.rpartition(".")[2] for name in adapter_targets(base, spec.lora.target_modules)})
        say(f"adapter: rank {spec.lora.rank} on {', '.join(layers)}")
    model = method.make_trainable(engine.trainable(plan.checkpointing), base, spec.lora, source)
    beginning = begin(model, spec.lora, source) if spec.lora else Beginning()
    if earlier:
        earlier.load_into(cast(AdapterModel, model))
        say(f"going on from the adapter {earlier.name}")
    trained_parameters = _trained_parameters(model)
    assert trained_parameters == sizes.trained, f"{trained_parameters} are trained, {sizes.trained} were counted"
    say(f"parameters: {trained_parameters:,} of {sizes.base:,} are trained")

    if found:
        packing = Packing(found.state.plan.packed, found.state.plan.packing)
    else:
        packing = decide_packing(
            spec.dataset.packing, store.lengths, plan, lambda: prove_packing(model, store, store.longest, device)
        )
    say(f"packing: {packing.status}")

    before = measure_before(device)
    for line in before_lines(device, before):
        say(line)
    penalty = _penalty(spec, fisher, model) if fisher else None
    stepper = engine.stepper(model, tokenizer, StepSettings(training, plan, device, packing.layout, penalty))
    batches = Batches(store, plan.batch, training.seed, tokenizer.pad_token_id or 0)
    trackers = trackers_of(config, folder.path)
    reporter = StepReporter(pusher, folder.metrics, training.logging_steps, plan.batch, trackers=trackers)
    run = Run(
        stepper=stepper,
        batches=batches,
        rates=LearningRates(training.scheduler, float(training.learning_rate), warmup, total),
        plan=SavedPlan(
            device=device.name,
            packages=packages(),
            micro_batch=plan.micro_batch,
            checkpointing=plan.checkpointing,
            packed=packing.layout,
            packing=packing.status,
        ),
        checkpoints=checkpoints,
        every_steps=training.checkpoint.every_steps,
        reporter=reporter,
        interruption=INTERRUPTION,
        confirm=confirm,
        measuring=_measuring(training, rows.prepared, total),
        reserved_bytes=lambda: reserved_bytes(device),
    )
    trained = run.take_steps(found)
    memory = measure_after(device, before)
    for line in report_lines(memory, trained.seconds):
        say(line)
    say(f"padding: {trained.padding:.1%} of the tokens computed")

    advice = [
        warmup_advice,
        stopping_advice(training, total),
        _smaller_batch(plan, trained),
        _moved(found, run.plan),
        trained_biases(model) if spec.lora else None,
        earlier.base_advice(source) if earlier else None,
    ]
    status = _training_status(engine, sizes, rows.prepared, run, trained, optimizer).model_copy(
        update={
            "attention": attention_of(model, device),
            "packing": packing.status,
            "metrics_uri": folder.metrics_uri,
        }
    )
    tuned = Tuned(model, tokenizer, beginning, [store[place] for place in range(min(3, len(store)))], source, device)
    return Steps(tuned, status, memory, [entry for entry in advice if entry])


def _identity(config: RunConfig, pins: Pins, engine: Engine) -> Identity:
    """What a checkpoint must be of. The rows' digest stands for their order, too."""
    assert pins.dataset_sha256, "the rows were read"
    return Identity(
        training_sha256=config.training_sha256,
        dataset_sha256=pins.dataset_sha256,
        model_revision=pins.model_revision,
        model_sha256=pins.model_sha256,
        engine=engine.name,
    )


def _measuring(training: ResolvedTraining, prepared: Prepared, total: int) -> Measuring | None:
    from finetune_trainer.training.loop import Measuring

    if not prepared.validation and not prepared.retention:
        return None
    return Measuring(prepared.validation, prepared.retention, measuring_steps(training, total), stopping_of(training))


def _fisher(
    spec: ResolvedSpec, source: ModelSource, rows: ReadRows, device: Device, earlier: EarlierAdapter | None
) -> dict[str, Tensor] | None:
    """What matters to the rows of the general dataset, by a plain model of its own; None where nobody asks.

    The model is the base, with the adapter that training continues from.
    """
    wanted = spec.training.elastic_weight_consolidation
    if not wanted:
        return None
    from finetune_trainer.models.adapter_targets import adapter_targets, matches
    from finetune_trainer.training.consolidation import update_fisher, weight_fisher

    general = rows.prepared.general
    examples = [general[place] for place in range(min(wanted.max_examples, len(general)))]
    if not examples:
        raise StageError(
            Reason.DATASET_INVALID,
            "spec.training.elasticWeightConsolidation: none of the rows of spec.dataset.replay is left to look at",
            "name rows that are no repeats of the training rows, nor too long, and apply under a new name",
        )
    say(f"elastic weight consolidation: Fisher information of {len(examples)} rows, strength {wanted.strength}")
    model = METHODS[spec.method].load(source, device)
    if not spec.lora:
        return weight_fisher(model, examples, device)
    targets = adapter_targets(model, spec.lora.target_modules)
    if earlier:
        model = earlier.attach(model)
    return update_fisher(model, lambda name: any(matches(name, one) for one in targets), examples, device)


def _penalty(spec: ResolvedSpec, fisher: dict[str, Tensor], model: CausalLM) -> Penalty:
    from finetune_trainer.training.consolidation import update_penalty, weight_penalty

    wanted = spec.training.elastic_weight_consolidation
    assert wanted
    return (update_penalty if spec.lora else weight_penalty)(float(wanted.strength), fisher, model)


def _moved(found: Checkpoint | None, plan: SavedPlan) -> Advice | None:
    """What to know about a run that went on elsewhere than it began."""
    if not found:
        return None
    saved = found.state.plan
    changed = [
        f"{name} {before}, then {now}"
        for name, before, now in (("on", saved.device, plan.device), ("with", saved.packages, plan.packages))
        if before != now
    ]
    if not changed:
        return None
    text = (
        f"the run went on from step {found.state.step} elsewhere ({'; '.join(changed)}): its adapter is not the one "
        "of an undisturbed run to the bit"
    )
    return Advice(reason="ResumedElsewhere", message=cut(text, 512))


def _free_bytes(device: Device) -> int | None:
    if device.kind == "cpu":
        return None
    import torch

    return torch.cuda.mem_get_info()[0]


def _describe(plan: StepPlan) -> str:
    split = f"at most {plan.micro_batch} at a time, {plan.passes} times"
    return f"step: {plan.batch} rows ({split}), gradient checkpointing {plan.checkpointing}"


def _smaller_batch(plan: StepPlan, trained: Trained) -> Advice | None:
    if trained.micro_batch == plan.micro_batch:
        return None
    text = (
        f"GPU memory ran out with {plan.micro_batch} rows at a time; the run went on with {trained.micro_batch}. "
        f"Set spec.training.microBatchSize to a number up to {trained.micro_batch} to have it from the start"
    )
    return Advice(reason="MicroBatchLowered", message=text)


def trained_biases(model: CausalLM) -> Advice | None:
    """What to know about an adapter with trained biases in it."""
    names = [name for name, value in model.named_parameters() if value.requires_grad and name.endswith("bias")]
    return bias_advice(len(names))


def _training_status(
    engine: Engine, sizes: Sizes, prepared: Prepared, run: Run, trained: Trained, optimizer: str
) -> TrainingStatus:
    history = run.reporter.history
    norms = [entry.gradient_norm for entry in history if entry.gradient_norm is not None]
    seconds = round(trained.seconds)
    last = trained.best or (trained.measured[-1] if trained.measured else None)
    return TrainingStatus(
        steps=trained.steps,
        first_loss=number(history[0].loss) if history else None,
        final_loss=number(history[-1].loss) if history else None,
        final_gradient_norm=number(norms[-1]) if norms else None,
        validation_loss=number(last.validation_loss) if last and last.validation_loss is not None else None,
        best_step=trained.best.step if trained.best else None,
        stopped_early=trained.stopped_early if run.measuring and run.measuring.stopping else None,
        retention=retention_points(trained.measured),
        resumed_from_step=trained.resumed_from,
        runtime_seconds=seconds,
        runtime=format_duration(seconds),
        trained_tokens=trained.tokens,
        examples_seen=run.batches.examples(trained.steps),
        dropped_examples=sum(prepared.facts.dropped().get(kind, 0) for kind in (TOO_LONG, NO_RESPONSE)),
        trainable_parameters=sizes.trained,
        total_parameters=sizes.base + (sizes.trained if sizes.trained < sizes.base else 0),
        micro_batch_size=trained.micro_batch,
        warmup_steps=run.rates.warmup_steps,
        gradient_checkpointing=run.plan.checkpointing,
        optimizer=optimizer,
        dtype=run.stepper.dtype,
        engine=engine.name,
    )


def _trained_parameters(model: CausalLM) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
