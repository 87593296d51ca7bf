"""Builds TRL's SFTTrainer from the spec. Import it after Unsloth, which patches TRL."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PrinterCallback
from trl import SFTConfig, SFTTrainer

from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.stage.device import Device
from finetune_trainer.training.engines.unsloth.callbacks import ReportingCallback
from finetune_trainer.training.plan import StepPlan, optimizer_on
from finetune_trainer.training.reporter import StepReporter

_SCHEDULERS = {"Linear": "linear", "Cosine": "cosine", "Constant": "constant_with_warmup"}
_OPTIMIZERS = {"AdamW8bit": "adamw_8bit", "AdamW": "adamw_torch_fused"}


def training_arguments(spec: FineTuneJobSpec, plan: StepPlan, device: Device, scratch: str) -> Any:
    """The spec in the terms of SFTConfig."""
    training = spec.training
    on_gpu = device.kind == "cuda"
    return SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=plan.micro_batch,
        gradient_accumulation_steps=plan.accumulation,
        max_steps=training.max_steps or -1,
        num_train_epochs=training.epochs or 1,
        learning_rate=float(training.learning_rate),
        warmup_steps=training.warmup_steps,
        lr_scheduler_type=_SCHEDULERS[training.scheduler],
        optim=_OPTIMIZERS[optimizer_on(device, training)] if on_gpu else "adamw_torch",
        weight_decay=float(training.weight_decay),
        seed=training.seed,
        data_seed=training.seed,
        bf16=device.dtype == "bfloat16",
        fp16=device.dtype == "float16",
        # On a GPU Unsloth does its own checkpointing, as get_peft_model was told.
        gradient_checkpointing=not on_gpu and plan.checkpointing != "Disabled",
        max_length=spec.model.max_sequence_length,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come with token ids and labels
        logging_steps=training.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # else a loss that is no number would show as zero
        include_num_input_tokens_seen="non_padding",
        save_strategy="no",
        report_to="none",  # progress goes through our own callback
        disable_tqdm=True,
    )


def collator(tokenizer: Any) -> Any:
    """Pads rows on the right, and labels by position: an EOS that doubles as pad token stays in the loss."""
    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: list[TokenRow],
    spec: FineTuneJobSpec,
    plan: StepPlan,
    device: Device,
    reporter: StepReporter,
    scratch: str,
) -> Any:
    """An SFTTrainer over tokenised rows that reports to ``reporter`` and writes to ``scratch`` only."""
    dataset = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=training_arguments(spec, plan, device, scratch),
        train_dataset=dataset,
        data_collator=collator(tokenizer),
        callbacks=[ReportingCallback(reporter)],
    )
    trainer.remove_callback(PrinterCallback)
    if device.dtype != "bfloat16":
        # TRL made the adapter bfloat16, which a device without it computes several times slower.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return trainer
