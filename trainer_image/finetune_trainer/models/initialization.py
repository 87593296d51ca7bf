"""What a new adapter begins with, where that is more than no change: LoftQ and PiSSA."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from finetune_api.lora import LoraSpec
from finetune_api.reasons import Reason
from finetune_trainer.models.loading import linear_weights
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.failure import StageError

_ADAPTER = "default"
_ITERATIONS = 8  # of the randomised SVD (Halko et al. 2009)
_OVERSAMPLING = 16


@dataclass
class Beginning:
    """What a model's adapter began with; ``pieces`` are scaling B and A of each layer whose part left its weight."""

    pieces: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def rewrite(self, adapter: Path) -> None:
        """Makes a saved adapter one for the base model as it is, where PiSSA had taken the principal part out of it.

        W - s B0 A0 + s B A is W + [s B, -s B0] [A; A0]: an adapter of twice the rank, and a scaling of 1.
        """
        if not self.pieces:
            return
        from safetensors.torch import load_file, save_file

        file, settings_file = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
        weights, settings = load_file(file), json.loads(settings_file.read_text())
        rank, alpha = settings["r"], settings["lora_alpha"]
        scaling = alpha / (rank**0.5 if settings["use_rslora"] else rank)
        for name, (up, down) in self.pieces.items():
            a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
            weights[a] = torch.cat([weights[a], down.to(weights[a])], dim=0).contiguous()
            weights[b] = torch.cat([scaling * weights[b], -up.to(weights[b])], dim=1).contiguous()
        settings |= {"r": 2 * rank, "lora_alpha": 2 * rank, "use_rslora": False, "init_lora_weights": True}
        save_file(weights, file, metadata={"format": "pt"})
        settings_file.write_text(json.dumps(settings, indent=2, sort_keys=True))


def begin(model: CausalLM, lora: LoraSpec, source: ModelSource) -> Beginning:
    """Gives a new adapter its first weights, as ``spec.lora.initialization`` says. The seed decides them.

    LoftQ (Li et al. 2023, with the quantised weights left as they are, so that the adapter fits any NF4 copy of the
    base): s B A is the best approximation of W - NF4(W) of the adapter's rank. PiSSA (Meng et al. 2024): s B A is that
    of W itself, and the frozen weight keeps the rest.
    """
    if lora.initialization in (None, "Default"):
        return Beginning()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(lora.seed)
        if lora.initialization == "LoftQ":
            _loftq(model, linear_weights(source))
            return Beginning()
        return Beginning(dict(_pissa(model)))


def _loftq(model: CausalLM, original: dict[str, torch.Tensor]) -> None:
    from bitsandbytes.functional import dequantize_4bit

    for name, layer in _layers(model):
        base = layer.get_base_layer()
        if (state := getattr(base.weight, "quant_state", None)) is None:
            continue  # a kind of layer that stays in 16 bit, such as Falcon's: nothing was rounded away
        rounded = dequantize_4bit(base.weight.data, state).float()
        weight = original[_plain(name)].to(rounded.device).float()
        up, down = low_rank(weight - rounded, layer.r[_ADAPTER])
        _set(layer, up, down)


def _pissa(model: CausalLM) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    for name, layer in _layers(model):
        base = layer.get_base_layer()
        weight = base.weight.data.T if layer.fan_in_fan_out else base.weight.data
        up, down = low_rank(weight.float(), layer.r[_ADAPTER])
        rest = weight.float() - up @ down
        base.weight.data.copy_((rest.T if layer.fan_in_fan_out else rest).to(base.weight.dtype))
        _set(layer, up, down)
        yield name, (up.cpu(), down.cpu())


def low_rank(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[out, in] → [out, rank] and [rank, in]: their product is the matrix's best approximation of that rank.

    Raises StageError (ModelNotFound) for a matrix with an element that is no number, which has none.
    """
    if not bool(matrix.isfinite().all()):
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            "a weight of the base model is no number, so that no adapter can begin with a part of it",
            "check the model's weights, and apply under a new name",
        )
    most = min(matrix.shape)
    u, s, v = torch.svd_lowrank(matrix, q=min(rank + _OVERSAMPLING, most), niter=_ITERATIONS)
    count = min(rank, most)
    root = s[:count].sqrt()
    up, down = matrix.new_zeros(matrix.shape[0], rank), matrix.new_zeros(rank, matrix.shape[1])
    up[:, :count], down[:count] = u[:, :count] * root, (v[:, :count] * root).T
    return up, down


def _set(layer: Any, up: torch.Tensor, down: torch.Tensor) -> None:
    layer.lora_A[_ADAPTER].weight.data.copy_(down)
    layer.lora_B[_ADAPTER].weight.data.copy_(up / layer.scaling[_ADAPTER])


def _layers(model: CausalLM) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _plain(name: str) -> str:
    """A layer's name before PEFT wrapped the model."""
    return name.removeprefix("base_model.model.")
