"""The spec in the terms of TRL's SFTConfig: this is where "2e-4" becomes a float."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig

from finetune_trainer.stage.device import Dtype
from finetune_trainer.training.engines.base import StepSettings
from finetune_trainer.training.plan import optimizer_on

_OPTIMIZERS = {"AdamW8bit": "adamw_8bit", "AdamW": "adamw_torch_fused"}


def training_arguments(settings: StepSettings, scratch: str) -> Any:
    """An SFTConfig that writes nowhere but to ``scratch``.

    To the library a step is one batch: engines/unsloth/trainer.py splits it into micro-batches. How many steps there
    are, of which rows and at which rate, is the run's.
    """
    training, plan, device = settings.training, settings.plan, settings.device
    on_gpu = device.kind == "cuda"
    return SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=plan.batch,
        gradient_accumulation_steps=1,
        learning_rate=float(training.learning_rate),
        optim=_OPTIMIZERS[optimizer_on(device, training)] if on_gpu else "adamw_torch",
        weight_decay=float(training.weight_decay),
        seed=training.seed,
        bf16=device.dtype == "bfloat16",
        fp16=device.dtype == "float16",
        # On a GPU Unsloth does its own checkpointing, as get_peft_model was told.
        gradient_checkpointing=not on_gpu and plan.checkpointing != "Disabled",
        max_length=None,  # rows come within the limit
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come with token ids and labels
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def computed_in(arguments: Any) -> Dtype:
    """The type that a trainer with these arguments computes in. Unsloth changes them for models that need another."""
    return "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"
