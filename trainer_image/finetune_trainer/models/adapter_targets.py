"""Which layers get an adapter, and how large it will be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_api.lora import ALL_LINEAR, LoraSpec
from finetune_api.reasons import Reason
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.failure import StageError

if TYPE_CHECKING:
    from torch.nn import Module


def adapter_targets(model: CausalLM, wanted: list[str]) -> list[str]:
    """``spec.lora.targetModules`` in PEFT's terms: the ends of module names, sorted.

    AllLinear becomes every linear layer of the text decoder but the output head. Where the last parts of their names
    would also match a module that is none of these, the names are whole.

    Raises StageError (InvalidSpec) for a target that is no linear layer inside the model: embeddings and norms would be
    trained whole, and written outside of the adapter.
    """
    linear = _linear_layers(model)
    if wanted != [ALL_LINEAR]:
        if missing := [target for target in wanted if not any(matches(name, target) for name in linear)]:
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.lora.targetModules: the model has no linear layer {', '.join(missing)}; it has "
                f"{', '.join(sorted({_last(name) for name in linear}))}",
            )
        return sorted(wanted)
    inner = [name for name in linear if name.startswith(_decoder_prefix(model))]
    if not inner:
        raise StageError(Reason.INVALID_SPEC, "spec.lora.targetModules AllLinear: the model has no linear layer")
    ends = {_last(name) for name in inner}
    reached = {name for name, _ in model.named_modules() if _last(name) in ends}
    return sorted(ends) if reached == set(inner) else sorted(inner)


@dataclass(frozen=True)
class AdapterLayers:
    """Layers of one kind that get an adapter: alike in the last part of their name and in shape."""

    name: str
    inputs: int
    outputs: int
    count: int
    rank: int

    @property
    def parameters(self) -> int:
        """What the adapter adds beside all of them: two matrices, [rank, inputs] and [outputs, rank], for each."""
        return self.count * self.rank * (self.inputs + self.outputs)


def adapter_layers(model: CausalLM, lora: LoraSpec) -> list[AdapterLayers]:
    """The layers that get an adapter, by name, of a model whose weights need not be there.

    Raises StageError (InvalidSpec) as :func:`adapter_targets` does.
    """
    kinds = Counter((_last(name), *_features(layer)) for name, layer in _chosen(model, lora).items())
    return [AdapterLayers(*kind, count, lora.rank) for kind, count in sorted(kinds.items())]


def trained_biases(model: CausalLM, lora: LoraSpec) -> list[int]:
    """Sizes of the bias vectors that ``lora.bias`` trains."""
    if lora.bias == "All":
        return [bias.numel() for name, bias in model.named_parameters() if name.endswith("bias")]
    if lora.bias == "LoraOnly":
        biases: list[Any] = [getattr(layer, "bias", None) for layer in _chosen(model, lora).values()]
        return [bias.numel() for bias in biases if bias is not None]
    return []


def adapter_parameters(model: CausalLM, lora: LoraSpec) -> int:
    """Parameters of an adapter of a model whose weights need not be there: the sum of rank (in + out) over layers.

    Biases that are trained come on top.
    """
    return sum(one.parameters for one in adapter_layers(model, lora)) + sum(trained_biases(model, lora))


def quantised_parameters(model: CausalLM) -> int:
    """Parameters that lie in 4 bit once the model is loaded: the weights of linear layers, without the output head."""
    return sum(inputs * outputs for inputs, outputs in map(_features, _linear_layers(model).values()))


def _chosen(model: CausalLM, lora: LoraSpec) -> dict[str, Module]:
    targets, linear = adapter_targets(model, lora.target_modules), _linear_layers(model)
    return {name: layer for name, layer in linear.items() if any(matches(name, target) for target in targets)}


def _linear_layers(model: CausalLM) -> dict[str, Module]:
    """Linear layers by name, without the output head. bitsandbytes' Linear4bit is one; GPT-2's are Conv1D."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D) and not any(module is end for end in ends)
    }


def _features(layer: Module) -> tuple[int, int]:
    """A layer's input and output size. Of a quantised weight the shape tells nothing."""
    given: Any = layer
    if hasattr(given, "in_features"):
        return given.in_features, given.out_features
    rows, columns = given.weight.shape  # Conv1D keeps [in, out]
    return rows, columns


def _decoder_prefix(model: CausalLM) -> str:
    """The name of the text decoder inside a model that also sees or hears; empty for a plain language model."""
    config: object = model.config
    if model.config.get_text_config() is config:
        return ""
    decoder = model.get_decoder()
    return next((f"{name}." for name, module in model.named_modules() if module is decoder and name), "")


def matches(name: str, target: str) -> bool:
    """Whether a module's name is a target, or ends in it, as PEFT has it."""
    return name == target or name.endswith(f".{target}")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
