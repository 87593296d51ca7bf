"""Elastic weight consolidation: what mattered to rows of a general dataset is held near to where it was.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", equation 3: the loss grows by
``strength / 2 * sum_i F_i (w_i - w*_i)^2``, where w* are the weights before training and F is the diagonal of the
Fisher information matrix. F is the empirical one: the mean over rows of the squared gradient of a row's mean loss, at
w*. Of an adapter it is that of the base model, with the adapter that training continues from.

For method Full, w are the weights. For an adapter w is the update that it makes of each weight, s B A; w* is the one
that it begins with. Its gradient F (w - w*) goes on to A and B by the product rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.models.modes import without_dropout
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device

_ADAPTER = "default"
Fisher = dict[str, torch.Tensor]


class Penalty(Protocol):
    """A term of the loss that depends on the weights alone."""

    def add_gradient(self, scale: float) -> float:
        """Adds its gradient, times ``scale``, to the weights' own. Returns its value, unscaled."""
        ...


@dataclass
class WeightPenalty:
    """For method Full. Everything by name of the weight, of the weight's shape."""

    strength: float
    fisher: Fisher
    weights: dict[str, torch.nn.Parameter]
    reference: Fisher

    @torch.no_grad()
    def add_gradient(self, scale: float) -> float:
        parts = []
        for name, fisher in self.fisher.items():
            weight = self.weights[name]
            change = weight.detach().float() - self.reference[name]
            pull = self.strength * fisher.float() * change
            parts.append((pull * change).sum() / 2)
            _add(weight, scale * pull)
        return float(torch.stack(parts).sum()) if parts else 0.0


@dataclass
class UpdatePenalty:
    """For an adapter. ``fisher`` by name of the layer, [out, in], as PEFT's layer has its weight."""

    strength: float
    fisher: Fisher
    layers: dict[str, Any]  # peft.tuners.lora.LoraLayer
    reference: dict[str, tuple[torch.Tensor, torch.Tensor]]  # B and A of the beginning

    @torch.no_grad()
    def add_gradient(self, scale: float) -> float:
        parts = []
        for name, fisher in self.fisher.items():
            layer = self.layers[name]
            down, up, factor = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight, layer.scaling[_ADAPTER]
            before_up, before_down = self.reference[name]
            change = factor * (up.detach().float() @ down.detach().float() - before_up @ before_down)
            pull = self.strength * fisher.float() * change
            parts.append((pull * change).sum() / 2)
            _add(up, scale * factor * (pull @ down.detach().float().T))
            _add(down, scale * factor * (up.detach().float().T @ pull))
        return float(torch.stack(parts).sum()) if parts else 0.0


def weight_penalty(strength: float, fisher: Fisher, model: CausalLM) -> WeightPenalty:
    """Of a model whose weights are trained, before their training."""
    weights = {name: value for name, value in model.named_parameters() if name in fisher}
    reference = {name: value.detach().float().clone() for name, value in weights.items()}
    return WeightPenalty(strength, fisher, weights, reference)


def update_penalty(strength: float, fisher: Fisher, model: CausalLM) -> UpdatePenalty:
    """Of a model with an adapter, before its training."""
    from peft.tuners.lora import LoraLayer

    layers = {name: one for name, one in _plain_names(model) if isinstance(one, LoraLayer) and name in fisher}
    reference = {
        name: (
            one.lora_B[_ADAPTER].weight.detach().float().clone(),
            one.lora_A[_ADAPTER].weight.detach().float().clone(),
        )
        for name, one in layers.items()
    }
    return UpdatePenalty(strength, {name: fisher[name] for name in layers}, layers, reference)


def weight_fisher(model: CausalLM, rows: Sequence[TokenRow], device: Device) -> Fisher:
    """The diagonal of every weight of a plain model, by name. Memory: the model's once more, and its gradients."""
    weights = {name: value.requires_grad_() for name, value in model.named_parameters() if value.is_floating_point()}
    total = {name: torch.zeros_like(value, dtype=_kept(device)) for name, value in weights.items()}
    draw = _draw(device)
    for row in _passed(model, rows, device):
        for name, value in weights.items():
            if value.grad is not None:
                add_up(total[name], value.grad.float() ** 2 / row, draw)
                value.grad = None
    return total


def update_fisher(model: CausalLM, targets: Callable[[str], bool], rows: Sequence[TokenRow], device: Device) -> Fisher:
    """The diagonal of an update of each chosen layer of a plain model, [out, in], whatever its weight is kept in.

    A layer's gradient is that of its output times its input, so that frozen and quantised weights need none themselves.
    Memory: two bytes (a CPU: four) for each weight of these layers, since a gradient is gone once it is whole.
    """
    gradients: Fisher = {}
    due: Counter[str] = Counter()  # outputs of a pass whose gradient has not come yet; some models use a layer twice
    total: Fisher = {}
    draw = _draw(device)
    for value in model.parameters():  # else each weight would have a gradient of its own size
        value.requires_grad_(False)

    def take(name: str) -> None:
        gradient = gradients.pop(name)
        if name not in total:
            total[name] = torch.zeros_like(gradient, dtype=_kept(device))
        add_up(total[name], gradient**2 / len(rows), draw)

    def seen(name: str) -> Any:
        def add(inputs: torch.Tensor, gradient: torch.Tensor) -> None:
            product = gradient.flatten(0, -2).float().T @ inputs.flatten(0, -2).float()
            gradients[name] = gradients[name] + product if name in gradients else product
            due[name] -= 1
            if not due[name]:
                take(name)

        # The output's own hook, not the module's: some models change an output in place.
        def note(module: Any, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            due[name] += 1
            output.register_hook(partial(add, arguments[0].detach()))  # type: ignore[no-untyped-call]

        return note

    handles = [layer.register_forward_hook(seen(name)) for name, layer in _plain_names(model) if targets(name)]
    # A frozen model has gradients from its embeddings on.
    embeddings: Any = model.get_input_embeddings()
    handles.append(embeddings.register_forward_hook(lambda module, arguments, output: output.requires_grad_()))
    try:
        for _ in _passed(model, rows, device):
            for name in list(gradients):  # of layers with an output that the loss does not depend on
                take(name)
            due.clear()
    finally:
        for handle in handles:
            handle.remove()
    return total


def _passed(model: CausalLM, rows: Sequence[TokenRow], device: Device) -> Iterator[int]:
    """After each row's backward pass: how many rows there are."""
    dtype = getattr(torch, device.dtype)
    with without_dropout(model):
        for row in rows:
            ids = torch.tensor([row.input_ids], device=device.index)
            labels = torch.tensor([row.labels], device=device.index)
            if not bool((labels[:, 1:] != IGNORED).any()):
                continue
            with torch.autocast(device.kind, dtype, enabled=device.dtype != "float32"):
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[0, :-1].float(), labels[0, 1:], ignore_index=IGNORED, reduction="mean"
            )
            loss.backward()  # type: ignore[no-untyped-call]
            yield len(rows)


def _plain_names(model: CausalLM) -> Iterator[tuple[str, Any]]:
    """Modules by the names that they had before PEFT wrapped the model."""
    return ((name.removeprefix("base_model.model."), module) for name, module in model.named_modules())


def add_up(total: torch.Tensor, square: torch.Tensor, draw: torch.Generator) -> None:
    """Adds in place. In 16 bit the sum is rounded at random, up as often as it lies nearer to there.

    Rounded to the nearest it would stand still once it is 256 times what a row adds.
    """
    if total.dtype == torch.float32:
        total += square
        return
    bits = (total.float() + square).view(torch.int32)
    bits += torch.randint(0, 1 << 16, bits.shape, generator=draw, device=bits.device, dtype=torch.int32)
    total.copy_((bits & -(1 << 16)).view(torch.float32))  # the upper half is bfloat16


def _draw(device: Device) -> torch.Generator:
    return torch.Generator(device.kind).manual_seed(0)


def _kept(device: Device) -> torch.dtype:
    return torch.float32 if device.kind == "cpu" else torch.bfloat16


def _add(weight: torch.nn.Parameter, gradient: torch.Tensor) -> None:
    gradient = gradient.to(weight.dtype)
    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
