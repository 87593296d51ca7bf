"""AllLinear on many architectures: what gets an adapter, how large it is, that it trains and loads elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_api.defaults import ResolvedTraining
from finetune_api.lora import LoraSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.models.adapter_targets import (
    adapter_layers,
    adapter_parameters,
    adapter_targets,
    quantised_parameters,
)
from finetune_trainer.models.loading import attach_adapter, load_base, load_config, skeleton
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.engines.base import StepSettings
from finetune_trainer.training.plan import StepPlan
from finetune_trainer.training.reporter import StepReporter
from trainer_inputs import refusal
from training_steps import steps_of

CPU = Device("cpu", "CPU", 0, "float32")
# The article's, and what most Llama-likes have.
SEVEN = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
NEOX = ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]
TARGETS = {
    "llama": SEVEN,
    "mistral": SEVEN,
    "qwen2": SEVEN,
    "qwen3": SEVEN,
    "qwen3_moe": ["k_proj", "o_proj", "q_proj", "v_proj"],  # its experts are no layers but one tensor
    "gemma": SEVEN,
    "gemma3_text": SEVEN,
    "phi3": ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"],
    "lfm2": ["in_proj", "k_proj", "out_proj", "q_proj", "v_proj", "w1", "w2", "w3"],
    "gpt_neox": NEOX,
    "falcon": NEOX,
    "gpt2": ["c_attn", "c_fc", "c_proj"],  # Conv1D, not Linear
    "opt": ["fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"],
}
ROWS = [
    TokenRow(list(range(10, 40)), [IGNORED] * 20 + list(range(30, 40))),
    TokenRow(list(range(10, 30)), [IGNORED] * 10 + list(range(20, 30))),
] * 2


def source_of(kind: str, tiny_model: Path, folder: Path) -> ModelSource:
    from tiny_models import make_model

    return ModelSource(str(make_model(kind, tiny_model, folder)), None, False)


def train(source: ModelSource, lora: LoraSpec, folder: Path) -> Any:
    """Two steps; the adapter is saved to the folder. Returns the model."""
    engine = load_engine()
    base, tokenizer = engine.load_base(source, 256, CPU, METHODS["QLoRA"])
    model = engine.trainable("Disabled").add_adapter(base, lora, source)
    training = ResolvedTraining(learning_rate="1e-2", max_steps=2, batch_size=4, logging_steps=1, warmup_steps=0)
    settings = StepSettings(training, StepPlan(4, 2, "Disabled"), CPU)
    steps_of(model, tokenizer, ROWS, settings, StepReporter(None))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", TARGETS)
def test_all_linear_trains_every_linear_layer_but_the_head_and_plain_peft_loads_it(
    tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    load_engine()
    import torch
    from safetensors.torch import load_file

    source, lora = source_of(kind, tiny_model, tmp_path / "model"), LoraSpec(rank=4)
    bare = skeleton(source, load_config(source))
    assert bare
    assert adapter_targets(bare, lora.target_modules) == TARGETS[kind]

    trained = train(source, lora, tmp_path / "adapter")

    file = tmp_path / "adapter" / "adapter_model.safetensors"
    saved = load_file(file)
    assert sum(tensor.nbytes for tensor in saved.values()) == 4 * adapter_parameters(bare, lora)
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())
    moved = [tensor for name, tensor in saved.items() if "lora_B" in name]
    assert moved
    assert all(tensor.abs().sum() > 0 for tensor in moved)
    ids = torch.tensor([list(range(10, 40))])
    base: Any = load_base(source, CPU)
    with torch.no_grad():
        before = base(input_ids=ids).logits
        after = attach_adapter(base, tmp_path / "adapter")(input_ids=ids).logits
        expected = trained.eval()(input_ids=ids).logits
    # The two round differently by far less than what two steps change.
    assert (after - expected).abs().max() < 0.1 * (after - before).abs().max()


@pytest.mark.parametrize("targets", [["q_proj", "k_proj", "v_proj"], ["AllLinear"]])
@pytest.mark.parametrize("bias", ["LoraOnly", "All"])
def test_trained_biases_are_in_the_file_and_differ_from_the_bases(
    tiny_model: Path, tmp_path: Path, bias: Any, targets: list[str]
) -> None:
    load_engine()
    from safetensors.torch import load_file

    from finetune_trainer.training.set_up import trained_biases

    source = source_of("qwen2", tiny_model, tmp_path / "model")
    lora = LoraSpec(rank=4, bias=bias, target_modules=targets)
    bare = skeleton(source, load_config(source))
    assert bare
    model = train(source, lora, tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    base = load_file(Path(source.name) / "model.safetensors")
    biases = {name: tensor for name, tensor in saved.items() if name.endswith("bias")}
    assert len(biases) == 6  # of q, k and v in both layers
    for name, tensor in biases.items():
        assert not tensor.equal(base[name.removeprefix("base_model.model.").replace(".base_layer", "")])
    assert sum(tensor.nbytes for tensor in saved.values()) == 4 * adapter_parameters(bare, lora)
    advice = trained_biases(model)
    assert advice
    assert "6 bias vectors" in advice.message
    assert "vLLM" in advice.message
    attach_adapter(load_base(source, CPU), tmp_path / "adapter")


def test_layers_of_one_name_and_shape_are_counted_together_as_the_adapter_trains_them(tiny_model: Path) -> None:
    load_engine()
    source, lora = ModelSource(str(tiny_model), None, False), LoraSpec(rank=8, target_modules=["q_proj", "down_proj"])
    bare = skeleton(source, load_config(source))
    assert bare
    layers = adapter_layers(bare, lora)
    assert [(one.name, one.inputs, one.outputs, one.count) for one in layers] == [
        ("down_proj", 128, 64, 2),
        ("q_proj", 64, 64, 2),
    ]
    assert [one.parameters for one in layers] == [2 * 8 * (128 + 64), 2 * 8 * (64 + 64)]
    assert sum(one.parameters for one in layers) == adapter_parameters(bare, lora)
    # Two layers of four attention projections and three of the MLP; embeddings and the tied head stay in 16 bit.
    assert quantised_parameters(bare) == 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)


def test_a_target_is_named_as_peft_names_it_or_refused(tiny_model: Path) -> None:
    load_engine()
    source = ModelSource(str(tiny_model), None, False)
    bare = skeleton(source, load_config(source))
    assert bare
    for targets in (["v_proj", "q_proj"], ["self_attn.q_proj"], ["model.layers.1.mlp.up_proj"]):
        assert adapter_targets(bare, targets) == sorted(targets)
    for target in ("proj", "lm_head", "embed_tokens", "norm", "mlp", "attn.q_proj"):
        text = refusal(lambda target=target: adapter_targets(bare, [target]), Reason.INVALID_SPEC)  # type: ignore[misc]
        assert text.startswith(f"spec.lora.targetModules: the model has no linear layer {target}; it has down_proj")


def test_names_are_whole_where_their_ends_would_also_match_something_else() -> None:
    load_engine()
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.ModuleDict({"out": nn.Linear(2, 2)})
            self.out = nn.Linear(2, 9)
            self.embed = nn.Embedding(9, 2)
            self.config: Any = type("Config", (), {"get_text_config": lambda config: config})()

        def get_input_embeddings(self) -> nn.Module:
            return self.embed

        def get_output_embeddings(self) -> nn.Module:
            return self.out

    model: Any = Model()
    assert adapter_targets(model, ["AllLinear"]) == ["layer.out"]
