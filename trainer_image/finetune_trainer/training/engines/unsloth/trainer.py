"""TRL's SFTTrainer, taken one step at a time, with micro-batches of our own. Import it after Unsloth."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import torch
from datasets import Dataset
from trl import SFTTrainer

from finetune_trainer.models.modes import without_dropout
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.training import train_state
from finetune_trainer.training.engines.base import StepOutcome, StepperState, StepSettings
from finetune_trainer.training.engines.unsloth.training_arguments import computed_in, training_arguments
from finetune_trainer.training.memory import release_memory
from finetune_trainer.training.micro_batches import Batch, label_tokens, parts_of, split


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, whose loss of a pass weighs as much as the pass has of its step."""

    share = 1.0

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, *arguments, **options)
        if self.share == 1.0:  # 1.0 * loss would be another node for autograd
            return loss
        return (loss[0] * self.share, *loss[1:]) if isinstance(loss, tuple) else loss * self.share


class UnslothStepper:
    """See :class:`finetune_trainer.training.engines.base.Stepper`.

    TRL's trainer brings the loss, mixed precision, clipping and the optimizer; its loop is not used. A step's batch is
    taken in micro-batches, which need not divide it, and which may be packed. Each one's mean loss weighs as many label
    tokens as it has of the batch's, so that the gradient is that of the whole batch, however it is split.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, settings: StepSettings) -> None:
        self._plan, self._packed, self._penalty = settings.plan, settings.packed, settings.penalty
        self._scratch = tempfile.TemporaryDirectory(prefix="finetune-")  # where the library believes that it may write
        arguments = training_arguments(settings, self._scratch.name)
        # TRL rounds an adapter on a quantised base to 16 bit: one that training continues from would lose digits.
        before = {parameter: parameter.data for _, parameter in train_state.trained(model)}
        self._trainer: Any = _Trainer(
            model=model,
            processing_class=tokenizer,
            args=arguments,
            # TRL takes a Dataset only, and looks at its first row.
            train_dataset=Dataset.from_list([{"input_ids": [0], "labels": [0]}]),
            data_collator=lambda rows: rows,
        )
        for parameter, value in before.items():
            parameter.data = value
        keep_master_weights(model, settings.device)
        self._trainer.create_optimizer()
        self._model, self._optimizer = self._trainer.accelerator.prepare(model, self._trainer.optimizer)
        self._trainer.model_wrapped, self._trainer.optimizer = self._model, self._optimizer
        self._trainer.current_gradient_accumulation_steps = 1
        self._trained = [parameter for _, parameter in train_state.trained(model)]
        self._device = settings.device
        self.micro_batch = settings.plan.micro_batch
        self._measured_at_once = self.micro_batch  # less where rows that are not trained on are longer
        self.memory_retries = 0
        self.computed_tokens = 0
        self.dtype = computed_in(arguments)

    def step(self, batch: Batch, learning_rate: float) -> StepOutcome:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._gradients(batch)
        penalty, scaler = None, self._trainer.accelerator.scaler
        if self._penalty:
            penalty = self._penalty.add_gradient(scaler.get_scale() if scaler else 1.0)
        norm = float(self._trainer.accelerator.clip_grad_norm_(self._trained, self._trainer.args.max_grad_norm))
        self._optimizer.step()
        self._model.zero_grad(set_to_none=True)
        self._trainer.state.global_step += 1
        self._forget_metrics()
        skipped = scaler is not None and not math.isfinite(norm)
        return StepOutcome(float(loss), None if skipped else norm, penalty)

    def loss(self, batch: Batch) -> tuple[float, int]:
        self._measured_at_once = min(self._measured_at_once, self.micro_batch)
        while True:
            try:
                return self._loss(batch)
            except torch.OutOfMemoryError:
                if self._measured_at_once == 1:
                    raise
            # Outside of the handler, whose exception holds on to the tensors of the failed pass.
            self._measured_at_once = -(-self._measured_at_once // 2)
            say(f"GPU memory ran out: {self._measured_at_once} rows are measured at a time from here on")
            release_memory(self._device)

    def _loss(self, batch: Batch) -> tuple[float, int]:
        total, count = 0.0, 0
        self._trainer.share = 1.0
        with without_dropout(self._model), torch.no_grad():
            for part in split(batch, self._measured_at_once):
                if tokens := label_tokens(part):
                    inputs = self._trainer._prepare_inputs(part)
                    with self._trainer.compute_loss_context_manager():
                        mean = self._trainer.compute_loss(self._model, inputs)
                    total, count = total + float(mean) * tokens, count + tokens
        self._forget_metrics()
        return total, count

    def state(self) -> StepperState:
        return train_state.gather(self._trainer.model, self._optimizer.optimizer, self._trainer.accelerator.scaler)

    def restore(self, state: StepperState) -> None:
        train_state.restore(state, self._trainer.model, self._optimizer.optimizer, self._trainer.accelerator.scaler)

    def restore_weights(self, state: StepperState) -> None:
        train_state.restore_weights(state, self._trainer.model)

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """The batch's mean loss; its gradient is left with the weights.

        When GPU memory runs out and the plan allows it, the step begins anew with half the micro-batch, from the same
        random state: the trajectory is the one of the smaller micro-batch.
        """
        if not self._plan.may_shrink:
            return self._split_step(batch)
        state = train_state.random_state()
        while True:
            try:
                return self._split_step(batch)
            except torch.OutOfMemoryError:
                if self.micro_batch == 1:
                    raise
            # Outside of the handler, whose exception holds on to the tensors of the failed pass.
            self.micro_batch = -(-self.micro_batch // 2)
            self.memory_retries += 1
            say(f"GPU memory ran out: {self.micro_batch} rows at a time from here on")
            self._model.zero_grad(set_to_none=True)
            release_memory(self._device)
            train_state.restore_random_state(state)

    def _split_step(self, batch: Batch) -> torch.Tensor:
        parts = parts_of(batch, self.micro_batch, self._packed)
        total = label_tokens(batch)
        losses = []
        for part in parts:
            if share := label_tokens(part) / total:  # the mean over no label token would be no number
                losses.append(self._pass(part, share))
        self.computed_tokens += sum(part["input_ids"].numel() for part in parts)
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _pass(self, part: Batch, share: float) -> torch.Tensor:
        """One forward and backward pass over a part that has this share of the batch's label tokens."""
        self._trainer.share = share
        loss: torch.Tensor = self._trainer.training_step(self._model, part, None)
        return loss

    def _forget_metrics(self) -> None:
        """TRL collects metrics of each pass until its own loop logs them."""
        for kept in getattr(self._trainer, "_metrics", {}).values():
            kept.clear()


def keep_master_weights(model: CausalLM, device: Device) -> None:
    """Keeps what is trained in 32 bit, whatever a library made of it: 16 bits round small updates away.

    A bias beside an adapter stays in the device's type, since bitsandbytes puts it back there at each pass.
    """
    beside_adapter = any("lora_" in name for name, _ in train_state.trained(model))
    for name, parameter in train_state.trained(model):
        wanted = getattr(torch, device.dtype) if beside_adapter and "lora_" not in name else torch.float32
        parameter.data = parameter.data.to(wanted)
