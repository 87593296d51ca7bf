"""The training stage, top to bottom: inputs → model → tokens → adapter → steps → memory → save → result."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from finetune_api.base import number
from finetune_api.config import RunConfig
from finetune_api.progress import format_duration
from finetune_api.results import StageResult, TrainingStatus
from finetune_trainer.data.chat_template import read_chat_format
from finetune_trainer.data.prepare import prepare_training
from finetune_trainer.data.tokenize import TokenRows, tokenise
from finetune_trainer.models.adapter_files import adapter_status, link_latest, save_adapter
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.files import remove_drafts
from finetune_trainer.stage.progress import ProgressPusher
from finetune_trainer.stage.result import lineage, read_result, stage_result, write_result
from finetune_trainer.stage.run_folder import RunFolder, open_run_folder
from finetune_trainer.training.memory import measure_after, measure_before, report_lines
from finetune_trainer.training.plan import StepPlan, computed_in, optimizer_on, plan_step
from finetune_trainer.training.reporter import StepReporter


def train(config: RunConfig, pusher: ProgressPusher | None) -> StageResult:
    """Fine-tunes and saves an adapter. A whole result of an earlier attempt of this job is returned at once.

    Raises StageError for failures with a known reason.
    """
    folder = open_run_folder(config)
    if done := finished_training(config, folder):
        say(f"already trained: {folder.training_result}")
        link_latest(folder)  # a kill may have come between the result and the link
        return done
    remove_drafts(folder.path)

    spec = config.spec.resolved()
    assert spec.lora, "a resolved spec has an adapter"
    inputs = prepare_training(config, folder)
    device = inputs.device

    from finetune_trainer.models.training_model import add_adapter, load_base  # Unsloth takes half a minute to import

    say(f"loading {inputs.model.name} in 4 bit (NF4)")
    base = load_base(inputs.model, spec, device)
    if base.max_length < spec.model.max_sequence_length:
        say(f"maxSequenceLength: {base.max_length}, the model's context, in place of {spec.model.max_sequence_length}")
    chat = read_chat_format(base.tokenizer, spec.model.chat_template)
    tokens = tokenise(inputs.rows.rows, spec, chat, base.max_length)
    say(f"tokenised: {len(tokens.rows)} rows, longest {tokens.longest} tokens, {tokens.dropped} dropped as too long")
    say(f"loss on: {spec.training.loss_on.lower()}, which follow {chat.response_marker!r}, end {chat.terminator!r}")

    plan = plan_step(spec.training, base.shape, tokens.longest, _free_bytes(device))
    say(_describe(plan))
    optimizer = optimizer_on(device, spec.training)
    if optimizer != spec.training.optimizer:
        say(f"optimizer: {optimizer} in place of {spec.training.optimizer}, which needs a GPU")
    model = add_adapter(base, spec.lora, plan.checkpointing, inputs.model)

    from finetune_trainer.training.engines.unsloth.trainer import build_trainer

    reporter = StepReporter(pusher)
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        trainer = build_trainer(model, base.tokenizer, tokens.rows, spec, plan, device, reporter, scratch)
        before = measure_before(device)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
    memory = measure_after(device, before)
    for line in report_lines(memory, seconds):
        say(line)

    adapter = save_adapter(model, base.tokenizer, config, folder)
    say(f"saved: {adapter.uri}, {adapter.files} files, {adapter.size_bytes / 1e6:.1f} MB, sha256 {adapter.sha256}")
    sections = {
        "training": _training_status(trainer, model, tokens, plan, reporter, seconds, optimizer),
        "memory": memory,
        "adapter": adapter,
        "lineage": lineage(config, inputs.lock),
    }
    result = stage_result(config, "Train", sections)
    write_result(folder.training_result, result)
    link_latest(folder)
    return result


def finished_training(config: RunConfig, folder: RunFolder) -> StageResult | None:
    """The result of an earlier attempt of this job, if its adapter is whole."""
    result = read_result(folder.training_result, config)
    if result is None or result.adapter is None:
        return None
    try:
        return result if adapter_status(config, folder).sha256 == result.adapter.sha256 else None
    except ValueError:
        return None


def _free_bytes(device: Device) -> int | None:
    if device.kind == "cpu":
        return None
    import torch

    return torch.cuda.mem_get_info()[0]


def _describe(plan: StepPlan) -> str:
    split = f"{plan.micro_batch} rows at a time, {plan.accumulation} times"
    return f"step: {plan.micro_batch * plan.accumulation} rows ({split}), gradient checkpointing {plan.checkpointing}"


def _training_status(
    trainer: Any,
    model: Any,
    tokens: TokenRows,
    plan: StepPlan,
    reporter: StepReporter,
    seconds: float,
    optimizer: str,
) -> TrainingStatus:
    state, history = trainer.state, reporter.history
    batch_size = plan.micro_batch * plan.accumulation
    adapter_size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return TrainingStatus(
        steps=state.global_step,
        first_loss=number(history[0].loss) if history else None,
        final_loss=number(history[-1].loss) if history else None,
        runtime_seconds=round(seconds),
        runtime=format_duration(round(seconds)),
        trained_tokens=int(state.num_input_tokens_seen),
        examples_seen=min(state.global_step * batch_size, round(state.epoch * len(tokens.rows))),
        dropped_examples=tokens.dropped,
        trainable_parameters=adapter_size,
        total_parameters=_base_size(model) + adapter_size,
        micro_batch_size=plan.micro_batch,
        gradient_checkpointing=plan.checkpointing,
        optimizer=optimizer,
        dtype=computed_in(trainer.args),
    )


def _base_size(model: Any) -> int:
    """Parameters of the base model. A 4-bit weight packs two into each byte, so its own count is half of the truth."""
    return sum(
        2 * parameter.numel() * parameter.element_size()
        if type(parameter).__name__ == "Params4bit"
        else parameter.numel()
        for parameter in model.parameters()
        if not parameter.requires_grad
    )
