"""Makes a run ready for its first step: model → adapter → plan → optimizer. Import it after the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from finetune_api.config import RunConfig
from finetune_api.defaults import ResolvedSpec, ResolvedTraining
from finetune_api.reasons import Reason
from finetune_api.results import Advice
from finetune_api.run_folder import checkpoint_root
from finetune_api.sources import claims_written
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.prepare import TrainingInputs
from finetune_trainer.data.prepared import Prepared, check_same_tokens
from finetune_trainer.models.adapter_targets import adapter_targets, matches
from finetune_trainer.models.continuing import EarlierAdapter, read_adapter
from finetune_trainer.models.initialization import Beginning, begin
from finetune_trainer.models.loading import embedding_rows, load_config, skeleton, tokenizer_bytes
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.protocols import AdapterModel, CausalLM
from finetune_trainer.models.reading import ReadRows
from finetune_trainer.models.sizes import Sizes, sizes_of
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.interruption import INTERRUPTION
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.stage.result import packages
from finetune_trainer.stage.run_folder import RunFolder
from finetune_trainer.stage.storage import CHECKPOINT_CLAIM, check_room, size_of
from finetune_trainer.training.attention import fix_attention
from finetune_trainer.training.batches import Batches
from finetune_trainer.training.checkpoints import Checkpoint, Checkpoints, SavedPlan
from finetune_trainer.training.consolidation import (
    Penalty,
    update_fisher,
    update_penalty,
    weight_fisher,
    weight_penalty,
)
from finetune_trainer.training.engines.base import Engine, StepSettings
from finetune_trainer.training.loop import Measuring, Run
from finetune_trainer.training.memory import MemoryBefore, before_lines, measure_before, release_memory, reserved_bytes
from finetune_trainer.training.packed_attention import prove_packing
from finetune_trainer.training.packing import Packing, decide_packing
from finetune_trainer.training.plan import StepPlan, optimizer_on, plan_step, shape_of, total_steps, warmup_steps
from finetune_trainer.training.reporter import StepReporter
from finetune_trainer.training.saving import Tuned
from finetune_trainer.training.schedule import LearningRates
from finetune_trainer.training.spec_advice import bias_advice, retention_advice
from finetune_trainer.training.stopping import measuring_advice, measuring_steps, stopping_advice, stopping_of
from finetune_trainer.training.tracking import trackers_of


@dataclass(frozen=True)
class Ready:
    """A run before its first step, or before the next one of an earlier attempt."""

    run: Run
    found: Checkpoint | None  # to go on from
    tuned: Tuned
    sizes: Sizes
    optimizer: str
    memory: MemoryBefore  # the first step
    advice: list[Advice]


def set_up(
    config: RunConfig,
    inputs: TrainingInputs,
    engine: Engine,
    rows: ReadRows,
    folder: RunFolder,
    checkpoints: Checkpoints,
    pusher: ProgressPusher | None,
    confirm: Callable[[], None],
) -> Ready:
    """Loads the model, makes it trainable and decides how a step is computed. Says what it finds.

    Raises StageError for what a device, a folder or an earlier adapter doesn't allow.
    """
    spec, device, source = config.spec, inputs.device, inputs.sources.model
    training, method, store = spec.training, METHODS[spec.method], rows.prepared.store
    optimizer, tokenizer_size = optimizer_on(device, training), tokenizer_bytes(source)

    def sized(model: CausalLM) -> Sizes:
        sizes = sizes_of(model, spec)
        # What an earlier attempt wrote takes its share of that already.
        artefacts = min(size_of(folder.adapter, folder.model), sizes.artefact_bytes(spec, tokenizer_size))
        room = sizes.checkpoint_room(spec, optimizer)
        kept = min(size_of(checkpoints.folder), room)
        _check_room(config, folder, sizes.room_needed(spec, tokenizer_size) - artefacts, room - kept)
        return sizes

    fix_attention(device)
    bare = skeleton(source, load_config(source))
    sizes = sized(bare) if bare else None  # before anything is loaded, where that can be told
    found = checkpoints.newest()
    adapter = inputs.sources.adapter
    earlier = read_adapter(adapter, spec.lora) if adapter and spec.lora else None

    fisher = _fisher(spec, source, rows, device, earlier)
    release_memory(device)  # what is free decides how a step is split
    say(f"loading {source.name} {method.precision}")
    base, tokenizer = engine.load_base(source, rows.reading.limit, device, method)
    sizes = sizes or sized(base)
    chat = read_chat_format(tokenizer, spec.model, embedding_rows(base))
    check_same_tokens(rows.prepared.facts, store, replace(rows.reading, chat=chat))

    plan = plan_step(training, shape_of(base), store.longest, _free_bytes(device))
    if found:
        saved = found.state.plan
        plan = replace(plan, micro_batch=saved.micro_batch, checkpointing=saved.checkpointing)
    split = f"at most {plan.micro_batch} at a time, {plan.passes} times"
    say(f"step: {plan.batch} rows ({split}), gradient checkpointing {plan.checkpointing}")
    if optimizer != training.optimizer:
        say(f"optimizer: {optimizer} in place of {training.optimizer}, which needs a GPU")

    model, beginning = _trainable(spec, engine, plan, base, source, earlier, sizes)
    if found:
        packing = Packing(found.state.plan.packed, found.state.plan.packing)
    else:
        packing = decide_packing(
            spec.training_rows.packing, store.lengths, plan, lambda: prove_packing(model, store, store.longest, device)
        )
    say(f"packing: {packing.status}")

    before = measure_before(device)
    for line in before_lines(device, before):
        say(line)
    total = total_steps(training, len(store))
    warmup, warmup_advice = warmup_steps(training, total)
    penalty = _penalty(spec, fisher, model) if fisher else None
    trackers = trackers_of(config, folder.path)
    run = Run(
        stepper=engine.stepper(model, tokenizer, StepSettings(training, plan, device, packing.layout, penalty)),
        batches=Batches(store, plan.batch, training.seed, tokenizer.pad_token_id or 0),
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
        reporter=StepReporter(pusher, folder.metrics, training.logging_steps, plan.batch, trackers=trackers),
        interruption=INTERRUPTION,
        confirm=confirm,
        measuring=_measuring(training, rows.prepared, total),
        reserved_bytes=lambda: reserved_bytes(device),
    )
    tuned = Tuned(model, tokenizer, beginning, [store[place] for place in range(min(3, len(store)))], source, device)
    advice = [
        warmup_advice,
        stopping_advice(training, total),
        measuring_advice(training, total, rows.prepared.measured_examples),
        retention_advice(spec),
        trained_biases(model) if spec.lora else None,
        earlier.base_advice(source) if earlier else None,
    ]
    return Ready(run, found, tuned, sizes, optimizer, before, [one for one in advice if one])


def _check_room(config: RunConfig, folder: RunFolder, artefacts: int, checkpoints: int) -> None:
    _, *apart = claims_written(config.spec)
    check_room(folder.path, artefacts if apart else artefacts + checkpoints, str(folder.uri))
    for claim in apart:
        check_room(config.local_path(checkpoint_root(claim)), checkpoints, claim, CHECKPOINT_CLAIM)


def _trainable(
    spec: ResolvedSpec,
    engine: Engine,
    plan: StepPlan,
    base: CausalLM,
    source: ModelSource,
    earlier: EarlierAdapter | None,
    sizes: Sizes,
) -> tuple[CausalLM, Beginning]:
    """The model that is trained, and what its adapter starts from."""
    if spec.lora:
        layers = sorted({name.rpartition(".")[2] for name in adapter_targets(base, spec.lora.target_modules)})
        say(f"adapter: rank {spec.lora.rank} on {', '.join(layers)}")
    model = METHODS[spec.method].make_trainable(engine.trainable(plan.checkpointing), base, spec.lora, source)
    beginning = begin(model, spec.lora, source) if spec.lora else Beginning()
    if earlier:
        earlier.load_into(cast(AdapterModel, model))
        say(f"going on from the adapter {earlier.name}")
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == sizes.trained, f"{trained} are trained, {sizes.trained} were counted"
    say(f"parameters: {trained:,} of {sizes.total:,} are trained")
    return model, beginning


def _measuring(training: ResolvedTraining, prepared: Prepared, total: int) -> Measuring | None:
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
    wanted = spec.training.elastic_weight_consolidation
    assert wanted
    return (update_penalty if spec.lora else weight_penalty)(float(wanted.strength), fisher, model)


def _free_bytes(device: Device) -> int | None:
    if device.kind == "cpu":
        return None
    return torch.cuda.mem_get_info()[0]


def trained_biases(model: CausalLM) -> Advice | None:
    """What to know about an adapter with trained biases in it."""
    names = [name for name, value in model.named_parameters() if value.requires_grad and name.endswith("bias")]
    return bias_advice(len(names))
