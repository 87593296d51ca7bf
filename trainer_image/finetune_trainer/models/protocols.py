"""What we call on a causal language model, quantised or wrapped by an adapter, so that mypy checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


class TextConfig(Protocol):
    """The part of a model's configuration that speaks of its text decoder. What is missing depends on the model."""

    num_hidden_layers: int
    hidden_size: int
    vocab_size: int


class ModelConfig(Protocol):
    """A transformers configuration."""

    model_type: str

    def get_text_config(self) -> TextConfig: ...


class ModelOutput(Protocol):
    """What a forward pass gives."""

    logits: Tensor
    past_key_values: Any
    loss: Tensor | None


class CausalLM(Protocol):
    """A transformers model with a language-modelling head, or PEFT's wrapper of one."""

    config: ModelConfig
    generation_config: Any

    @property
    def device(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...

    # Tensors by name, such as input_ids [batch, length]; the logits are [batch, length, vocabulary].
    def __call__(self, **inputs: Any) -> ModelOutput: ...

    def forward(self, **inputs: Any) -> ModelOutput: ...

    def generate(self, **inputs: Any) -> Any: ...

    def parameters(self) -> Iterator[Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]: ...

    def named_modules(self) -> Iterator[tuple[str, Module]]: ...

    def modules(self) -> Iterator[Module]: ...

    def get_input_embeddings(self) -> Module: ...

    def get_output_embeddings(self) -> Module | None: ...

    def get_decoder(self) -> Module: ...

    @property
    def training(self) -> bool: ...

    def eval(self) -> Self: ...

    def save_pretrained(self, save_directory: str | Path) -> object: ...


class AdapterModel(CausalLM, Protocol):
    """PEFT's wrapper of a model."""

    peft_config: Mapping[str, Any]
