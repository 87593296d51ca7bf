"""The state of a training, to the bit: what is trained, the optimizer's moments, and all random states."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.training.engines.base import StepperState

_WEIGHTS, _MOMENTS, _RANDOM = "weights/", "moments/", "random/"


def gather(model: CausalLM, optimizer: Any, scaler: Any) -> StepperState:
    """The state of a model in training, by the names of its parameters. ``scaler`` is None where nothing is scaled."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for name, parameter in trained(model):
        tensors[_WEIGHTS + name] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_MOMENTS}{name}/{key}"] = value
            elif isinstance(value, int | float):
                numbers.setdefault(name, {})[key] = value
            else:
                raise TypeError(f"the optimizer keeps a {type(value).__name__} under {key!r}, which is no number")
    tensors |= {_RANDOM + name: value for name, value in _random_tensors().items()}
    values: dict[str, Any] = {"moments": numbers, "optimizer": _library(optimizer), "random": _random_values()}
    if scaler is not None:
        values["scaler"] = scaler.state_dict()
    return StepperState(tensors, values)


def restore(state: StepperState, model: CausalLM, optimizer: Any, scaler: Any) -> None:
    """Takes back what :func:`gather` gave. Raises ValueError when it is that of another model or optimizer.

    The moments are set, not loaded: load_state_dict casts them to the type of their weights.
    """
    theirs, ours = state.values.get("optimizer"), _library(optimizer)
    if theirs not in (None, ours):  # a GPU's moments in 8 bit, say, and a CPU's optimizer
        raise ValueError(f"its moments are those of an optimizer of {theirs}, and the run has one of {ours} here")
    restore_weights(state, model)
    moments: dict[str, dict[str, Any]] = {}
    for key, value in _below(_MOMENTS, state.tensors):
        name, _, field = key.rpartition("/")
        moments.setdefault(name, {})[field] = value
    for name, found in state.values["moments"].items():
        moments.setdefault(name, {}).update(found)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in trained(model):
        optimizer.state.pop(parameter, None)
        if name in moments:
            # PyTorch counts steps on the host, but for its fused and capturable kernels.
            on_device = any(groups[parameter].get(kind) for kind in ("fused", "capturable"))
            optimizer.state[parameter] = {
                field: _placed(value, parameter if on_device or field != "step" else None)
                for field, value in moments[name].items()
            }
    if scaler is not None and "scaler" in state.values:  # not of a device that computed in bfloat16: a new one begins
        scaler.load_state_dict(state.values["scaler"])
    _restore_random(dict(_below(_RANDOM, state.tensors)), state.values["random"])


def restore_weights(state: StepperState, model: CausalLM) -> None:
    """Takes back what is trained, in the type that it was trained in. Raises ValueError for another model's."""
    saved, here = dict(_below(_WEIGHTS, state.tensors)), dict(trained(model))
    if saved.keys() != here.keys():
        odd = sorted(saved.keys() ^ here.keys())
        raise ValueError(f"{len(odd)} weights are only in one of checkpoint and model, such as {odd[0]}")
    for name, parameter in here.items():
        if saved[name].shape != parameter.shape:
            raise ValueError(f"{name} is {list(saved[name].shape)} there and {list(parameter.shape)} in the model")
        if saved[name].dtype == parameter.dtype:
            parameter.data.copy_(saved[name])
        else:
            parameter.data = saved[name].to(parameter.device, copy=True)


def trained(model: CausalLM) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """What is trained of a model, by name."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def random_state() -> dict[str, torch.Tensor]:
    """What a pass draws from, to take it again."""
    return _random_tensors()


def restore_random_state(tensors: Mapping[str, torch.Tensor]) -> None:
    """Takes back what :func:`random_state` gave."""
    torch.set_rng_state(tensors["cpu"].cpu())
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if (saved := tensors.get(f"cuda-{number}")) is not None:
                torch.cuda.set_rng_state(saved.cpu(), number)


def _library(optimizer: Any) -> str:
    """Whose optimizer it is: each keeps moments under names of its own."""
    return type(optimizer).__module__.partition(".")[0]


def _placed(value: Any, beside: torch.nn.Parameter | None) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(beside.device if beside is not None else "cpu", copy=True)


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in tensors.items() if name.startswith(prefix))


def _random_tensors() -> dict[str, torch.Tensor]:
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found |= {f"cuda-{number}": value for number, value in enumerate(torch.cuda.get_rng_state_all())}
    return found


def _random_values() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), int(place), int(has_gauss), float(cached)],
    }


def _restore_random(tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
    restore_random_state(tensors)
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, place, has_gauss, cached = values["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), place, has_gauss, cached))
