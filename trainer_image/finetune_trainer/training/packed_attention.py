"""Proof that examples which share a sequence see themselves alone, by the loaded model: nothing is taken on trust.

Three rows are passed alone, and then packed by the very code that trains. A model that keeps states from token to
token, that counts positions by itself, or whose kernel overlooks where an example begins gives other logits then.
Short rows say nothing of what begins further out: chunked attention is asked for by its name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from finetune_trainer.data.tokenize import TokenRow
from finetune_trainer.models.answers_alike import TOLERANCE
from finetune_trainer.models.modes import keep_modes, stop_dropout
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device
from finetune_trainer.training.micro_batches import Batch, lay_out
from finetune_trainer.training.packing import SEQUENCE, Layout, Proof

_LENGTHS = (24, 13, 8)
_ROWS = 16  # whose tokens are taken
# What each layout may look like, the first with padding behind its second sequence. Tried in this order.
_WAYS: dict[Layout, tuple[list[list[int]], ...]] = {
    "Rows": ([[0], [1, 2]], [[0, 1, 2]]),
    "Flat": ([[0, 1, 2]],),
}


def prove_packing(model: CausalLM, rows: Sequence[TokenRow], longest: int, device: Device) -> Proof:
    """In which layout this model keeps packed examples apart. ``longest`` is the longest row in tokens.

    Leaves random states, gradients and the model's mode as they were.
    """
    name = f"{model.config.model_type} with {getattr(model.config, '_attn_implementation', None) or 'own'} attention"
    chunk = getattr(model.config.get_text_config(), "attention_chunk_size", None)
    if chunk and max(longest, SEQUENCE) > chunk:
        return Proof(None, f"{name} attends in chunks of {chunk} tokens, which are counted from a sequence's beginning")
    problems = []
    with _undisturbed(model, device):
        probe = _probe(rows, device)
        tolerance = TOLERANCE[device.dtype]
        alone = [_logits(model, _single(probe, row))[0] for row in range(len(_LENGTHS))]
        if _distance(_logits(model, _single(probe, 0))[0], alone[0], alone) > 0:  # dropout, of whatever kind
            stop_dropout(model)
            alone = [_logits(model, _single(probe, row))[0] for row in range(len(_LENGTHS))]
        if _mixed_distance(model, probe, alone) <= 2 * tolerance:
            return Proof(None, f"{name}: the model's logits don't tell whether packed examples see each other")
        for layout in _WAYS:
            try:
                found = _packed_distance(model, probe, alone, layout)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a forward that takes no positions, in whatever words
                problems.append(f"{name} takes no packed examples ({type(error).__name__}: {error})")
                continue
            if found <= tolerance:
                return Proof(layout)
            problems.append(f"{name} mixes examples that share a sequence: their logits differ by {found:.0%}")
    return Proof(None, problems[0])


@contextmanager
def _undisturbed(model: CausalLM, device: Device) -> Iterator[None]:
    """Without gradients, in training mode, in the type that training computes in; all as before afterwards."""
    on_gpu = device.kind == "cuda"
    dtype = getattr(torch, device.dtype)
    with (
        torch.random.fork_rng(devices=[device.index] if on_gpu else []),
        torch.no_grad(),
        torch.autocast(device.kind, dtype, enabled=device.dtype != "float32"),
        keep_modes(model),
    ):
        module: Any = model
        module.train()
        try:
            yield
        finally:
            if on_gpu:
                torch.cuda.empty_cache()  # what is reserved before training is the model


def _probe(rows: Sequence[TokenRow], device: Device) -> Batch:
    """A padded batch of the rows' own tokens, each in one row only: copies would hide that rows see each other."""
    tokens = sorted({token for place in range(min(_ROWS, len(rows))) for token in rows[place].input_ids})
    random.Random(0).shuffle(tokens)
    while len(tokens) < sum(_LENGTHS):  # hardly any tokens: the rows will not tell, and the probe says so
        tokens += tokens
    ids, mask = torch.zeros(len(_LENGTHS), _LENGTHS[0], dtype=torch.long), torch.zeros(3, _LENGTHS[0], dtype=torch.long)
    for row, length in enumerate(_LENGTHS):
        ids[row, :length] = torch.tensor([tokens.pop() for _ in range(length)])
        mask[row, :length] = 1
    where = torch.device(device.index) if device.kind == "cuda" else torch.device("cpu")
    return {"input_ids": ids.to(where), "attention_mask": mask.to(where), "labels": ids.to(where)}


def _single(probe: Batch, row: int) -> Batch:
    return {name: probe[name][row : row + 1, : _LENGTHS[row]] for name in ("input_ids", "attention_mask")}


def _logits(model: CausalLM, batch: Batch) -> torch.Tensor:
    """[sequences, length, vocabulary] in 32 bit. Without labels each model gives its logits."""
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits.float()


def _packed_distance(model: CausalLM, probe: Batch, alone: list[torch.Tensor], layout: Layout) -> float:
    """How far logits move at most when the rows are packed in each way that the layout has."""
    return max(
        _distance(logits[sequence, start : start + _LENGTHS[row]], alone[row], alone)
        for sequences in _WAYS[layout]
        for packed in [lay_out(probe, sequences, _LENGTHS)]
        for logits in [_logits(model, packed.batch)]
        for row, sequence, start in packed.places
    )


def _mixed_distance(model: CausalLM, probe: Batch, alone: list[torch.Tensor]) -> float:
    """How far the last row's logits move when it may see another row: what a mistake would look like."""
    ids = torch.cat([_single(probe, row)["input_ids"] for row in (1, 2)], dim=1)
    logits = _logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return _distance(logits[0, _LENGTHS[1] :], alone[2], alone)


def _distance(logits: torch.Tensor, expected: torch.Tensor, all_logits: list[torch.Tensor]) -> float:
    """The largest root mean square over a token's logits, over the standard deviation of all logits."""
    spread = torch.cat(all_logits).std()
    value = ((logits - expected).pow(2).mean(dim=-1).sqrt().max() / spread).item()
    return value if value == value else float("inf")
