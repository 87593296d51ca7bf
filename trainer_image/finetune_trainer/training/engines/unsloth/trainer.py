"""TRL's SFTTrainer, with micro-batches of our own that shrink when memory runs out. Import it after Unsloth."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PrinterCallback
from trl import SFTTrainer

from finetune_api.reasons import Reason
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training.engines.base import Schedule
from finetune_trainer.training.engines.unsloth.callbacks import ReportingCallback
from finetune_trainer.training.engines.unsloth.training_arguments import training_arguments
from finetune_trainer.training.micro_batches import Batch, label_tokens, parts_of
from finetune_trainer.training.packing import Layout
from finetune_trainer.training.plan import StepPlan
from finetune_trainer.training.reporter import StepReporter


class SplittingTrainer(SFTTrainer):  # type: ignore[misc]
    """Takes a step's batch in micro-batches, which need not divide it, and which may be packed.

    Each micro-batch's mean loss weighs as many label tokens as it has of the batch's, so that the gradient is that of
    the whole batch, however it is split. When GPU memory runs out and the plan allows it, the step begins anew with
    half the micro-batch, from the same random state: the trajectory is the one of the smaller micro-batch.
    """

    def __init__(self, plan: StepPlan, packed: Layout | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.plan = plan
        self.packed = packed
        self.micro_batch = plan.micro_batch
        self.computed_tokens = 0  # padding with them
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
        parts = parts_of(inputs, self.micro_batch, self.packed)
        # A device is asked for numbers only where there is something to weigh.
        total = label_tokens(inputs) if len(parts) > 1 else 0
        losses = []
        for part in parts:
            self._share = label_tokens(part) / total if total else 1.0
            if self._share:  # the mean over no label token would be no number
                # Without num_items_in_batch every model gives the mean over the part's own label tokens.
                losses.append(super().training_step(model, part, None))
        self.computed_tokens += sum(part["input_ids"].numel() for part in parts)
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


class StoredRows(torch.utils.data.Dataset[dict[str, list[int]]]):
    """Rows of a store, each read when its step comes."""

    def __init__(self, rows: TokenStore) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        return columns(self._rows[place])


def columns(row: TokenRow) -> dict[str, list[int]]:
    """A row by the names that the trainer and its collator know."""
    return {"input_ids": row.input_ids, "labels": row.labels}


def collator(tokenizer: Tokenizer) -> Callable[[list[dict[str, list[int]]]], Batch]:
    """Pads rows on the right, and labels by position: an EOS that doubles as pad token stays in the loss.

    What it gives raises StageError (InvalidSpec) for rows without any label: TRL would call that a loss of zero.
    """
    tokenizer.padding_side = "right"
    pad = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)

    def collate(rows: list[dict[str, list[int]]]) -> Batch:
        batch: Batch = pad(rows)
        if not label_tokens(batch):
            raise StageError(
                Reason.INVALID_SPEC,
                f"the {len(rows)} rows of a step have no token that the loss sees",
                "check spec.training.lossOn and the rows' train flags, and apply under a new name",
            )
        return batch

    return collate


def build_trainer(
    model: CausalLM,
    tokenizer: Tokenizer,
    rows: TokenStore,
    schedule: Schedule,
    reporter: StepReporter,
    scratch: str,
) -> SplittingTrainer:
    """A trainer over tokenised rows that reports to ``reporter`` and writes to ``scratch`` only."""
    trainer = SplittingTrainer(
        plan=schedule.plan,
        packed=schedule.packed,
        model=model,
        processing_class=tokenizer,
        args=training_arguments(schedule, scratch),
        # TRL takes a Dataset only, and looks at its first row.
        train_dataset=Dataset.from_list([columns(rows[0])]),
        data_collator=collator(tokenizer),
        callbacks=[ReportingCallback(reporter)],
    )
    trainer.train_dataset = StoredRows(rows)
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


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
