"""TRL's SFTTrainer, with micro-batches of our own that shrink when memory runs out. Import it after Unsloth."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PrinterCallback
from trl import SFTTrainer

from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training.engines.base import Schedule
from finetune_trainer.training.engines.unsloth.callbacks import ReportingCallback
from finetune_trainer.training.engines.unsloth.training_arguments import training_arguments
from finetune_trainer.training.plan import StepPlan
from finetune_trainer.training.reporter import StepReporter

Batch = dict[str, torch.Tensor]  # each [rows, length]: input_ids, attention_mask, labels


class SplittingTrainer(SFTTrainer):  # type: ignore[misc]
    """Takes a step's batch in micro-batches, which need not divide it.

    Each micro-batch's mean loss weighs as many label tokens as it has of the batch's, so that the gradient is that of
    the whole batch, however it is split. When GPU memory runs out and the plan allows it, the step begins anew with
    half the micro-batch, from the same random state: the trajectory is the one of the smaller micro-batch.
    """

    def __init__(self, plan: StepPlan, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.plan = plan
        self.micro_batch = plan.micro_batch
        self._share = 1.0

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        state = _random_state()
        while True:
            try:
                return self._split_step(model, inputs)
            except torch.OutOfMemoryError:
                if not self.plan.may_shrink or self.micro_batch == 1:
                    raise
            # Outside of the handler, whose exception holds on to the tensors of the failed pass.
            self.micro_batch = -(-self.micro_batch // 2)
            say(f"GPU memory ran out: {self.micro_batch} rows at a time from step {self.state.global_step + 1} on")
            model.zero_grad(set_to_none=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _restore_random_state(state)

    def compute_loss(self, model: Any, inputs: Batch, *arguments: Any, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, *arguments, **options)
        if self._share == 1.0:  # 1.0 * loss would be another node for autograd
            return loss
        return (loss[0] * self._share, *loss[1:]) if isinstance(loss, tuple) else loss * self._share

    def _split_step(self, model: Any, inputs: Batch) -> torch.Tensor:
        if self.micro_batch >= len(inputs["input_ids"]):
            self._share = 1.0
            loss: torch.Tensor = super().training_step(model, inputs, None)
            return loss
        total = _label_tokens(inputs)
        losses = []
        for part in split(inputs, self.micro_batch):
            self._share = _label_tokens(part) / total if total else 1.0
            # Without num_items_in_batch every model gives the mean over the part's own label tokens.
            losses.append(super().training_step(model, part, None))
        return torch.stack(losses).sum()


def split(batch: Batch, rows: int) -> Iterator[Batch]:
    """Parts of a right-padded batch of at most so many rows, without the columns that are padding in all of them."""
    mask = batch["attention_mask"]
    for start in range(0, len(mask), rows):
        longest = int(mask[start : start + rows].sum(dim=1).max())
        yield {name: values[start : start + rows, :longest] for name, values in batch.items()}


def collator(tokenizer: Tokenizer) -> Any:
    """Pads rows on the right, and labels by position: an EOS that doubles as pad token stays in the loss."""
    tokenizer.padding_side = "right"
    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)


def build_trainer(
    model: CausalLM,
    tokenizer: Tokenizer,
    rows: list[TokenRow],
    schedule: Schedule,
    reporter: StepReporter,
    scratch: str,
) -> SplittingTrainer:
    """A trainer over tokenised rows that reports to ``reporter`` and writes to ``scratch`` only."""
    dataset = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    trainer = SplittingTrainer(
        plan=schedule.plan,
        model=model,
        processing_class=tokenizer,
        args=training_arguments(schedule, scratch),
        train_dataset=dataset,
        data_collator=collator(tokenizer),
        callbacks=[ReportingCallback(reporter)],
    )
    trainer.remove_callback(PrinterCallback)
    tokenizer.padding_side = "right"  # whatever the trainer's constructor made of it
    keep_master_weights(model, schedule.device)
    return trainer


def keep_master_weights(model: CausalLM, device: Device) -> None:
    """Keeps what is trained in 32 bit, whatever a library made of it: 16 bits round small updates away.

    A bias stays in the device's type, since bitsandbytes puts it back there at each pass.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            wanted = torch.float32 if "lora_" in name else getattr(torch, device.dtype)
            parameter.data = parameter.data.to(wanted)


def _label_tokens(batch: Batch) -> int:
    """Tokens whose loss counts. The first of a row has nothing before it to be predicted from."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
