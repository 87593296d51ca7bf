"""The spec in the terms of TRL's SFTConfig: this is where "2e-4" becomes a float."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig

from finetune_trainer.stage.device import Dtype
from finetune_trainer.training.engines.base import Schedule
from finetune_trainer.training.plan import optimizer_on

_SCHEDULERS = {"Linear": "linear", "Cosine": "cosine", "Constant": "constant_with_warmup"}
_OPTIMIZERS = {"AdamW8bit": "adamw_8bit", "AdamW": "adamw_torch_fused"}


def training_arguments(schedule: Schedule, scratch: str) -> Any:
    """An SFTConfig that writes nowhere but to ``scratch``.

    To the library a step is one batch: engines/unsloth/trainer.py splits it into micro-batches.
    """
    training, plan, device = schedule.training, schedule.plan, schedule.device
    on_gpu = device.kind == "cuda"
    return SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=plan.batch,
        gradient_accumulation_steps=1,
        max_steps=training.max_steps or -1,
        num_train_epochs=training.epochs or 1,
        learning_rate=float(training.learning_rate),
        warmup_steps=schedule.warmup_steps,
        lr_scheduler_type=_SCHEDULERS[training.scheduler],
        optim=_OPTIMIZERS[optimizer_on(device, training)] if on_gpu else "adamw_torch",
        weight_decay=float(training.weight_decay),
        seed=training.seed,
        data_seed=training.seed,
        bf16=device.dtype == "bfloat16",
        fp16=device.dtype == "float16",
        # On a GPU Unsloth does its own checkpointing, as get_peft_model was told.
        gradient_checkpointing=not on_gpu and plan.checkpointing != "Disabled",
        max_length=None,  # rows come within the limit
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


def computed_in(arguments: Any) -> Dtype:
    """The type that a trainer with these arguments computes in. Unsloth changes them for models that need another."""
    return "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"
