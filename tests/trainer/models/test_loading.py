"""A base model is what its configuration says, whole, or it is refused by both stages; a tokenizer is found in what is
there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.models.loading import (
    attach_adapter,
    context_of,
    load_base,
    load_config,
    load_tokenizer,
    text_tokenizer,
)
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.training.engines import load_engine
from trainer_inputs import refusal

CPU = Device("cpu", "CPU", 0, "float32")
LAYER = "model.layers.1.mlp.up_proj.weight"


def source(folder: Path, trust: bool = False) -> ModelSource:
    return ModelSource(str(folder), None, trust)


def load_for_training(folder: Path) -> Any:
    return load_engine().load_base(source(folder), 256, CPU, METHODS["QLoRA"])[0]


def load_for_evaluation(folder: Path) -> Any:
    return load_base(source(folder), CPU)


LOADERS = [load_for_training, load_for_evaluation]


def changed(tiny_model: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the tiny model with other tensors."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def zeros(*shape: int) -> Any:
    import torch

    return torch.zeros(*shape)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "lacks a layer's tensor": (lambda weights: weights.pop(LAYER), f"it lacks {LAYER}"),
    "lacks a norm": (lambda weights: weights.pop("model.norm.weight"), "it lacks model.norm.weight"),
    "has a layer more": (
        lambda weights: weights.update({"model.layers.2.input_layernorm.weight": zeros(64)}),
        "it has, though the architecture does not, model.layers.2.input_layernorm.weight",
    ),
    "another shape, quantised": (lambda weights: weights.update({LAYER: zeros(64, 64)}), f"another shape .* {LAYER}"),
    "another shape": (
        lambda weights: weights.update({"model.norm.weight": zeros(32)}),
        "another shape .* model.norm.weight",
    ),
    "lacks many": (
        lambda weights: [weights.pop(name) for name in list(weights) if "mlp" in name],
        r"it lacks model.layers.0.mlp.down_proj.weight, \S+, \S+ and 3 more",
    ),
}


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_does_not_fill_its_architecture_is_no_model(
    tiny_model: Path, tmp_path: Path, fault: str, load: Callable[[Path], object]
) -> None:
    change, words = FAULTS[fault]
    folder = changed(tiny_model, tmp_path / "model", change)
    text = refusal(lambda: load(folder), Reason.MODEL_NOT_FOUND)
    assert text.startswith(f"{folder} is not whole: it ")
    assert re.search(words, text), text


@pytest.mark.parametrize("load", LOADERS)
def test_a_head_is_missing_only_where_it_is_not_the_embedding(
    tiny_model: Path, tmp_path: Path, load: Callable[[Path], object]
) -> None:
    load(tiny_model)  # its head is the embedding
    folder = changed(tiny_model, tmp_path / "model", lambda _: None)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    assert "it lacks lm_head.weight" in refusal(lambda: load(folder), Reason.MODEL_NOT_FOUND)


@pytest.mark.parametrize("load", LOADERS)
def test_what_an_architecture_is_known_to_ignore_does_not_count(
    tiny_model: Path, tmp_path: Path, load: Callable[[Path], object]
) -> None:
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": zeros(8)}
    load(changed(tiny_model, tmp_path / "model", lambda weights: weights.update(more)))


@pytest.mark.parametrize("load", LOADERS)
def test_a_checkpoint_that_was_cut_off_is_no_model(
    tiny_model: Path, tmp_path: Path, load: Callable[[Path], object]
) -> None:
    folder = changed(tiny_model, tmp_path / "model", lambda _: None)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert f"{folder} can't be read: " in refusal(lambda: load(folder), Reason.MODEL_NOT_FOUND)


def test_a_checkpoint_that_lacks_one_of_its_files_is_no_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", lambda _: None)
    names = {"model.norm.weight": "model-00001-of-00002.safetensors", LAYER: "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / names["model.norm.weight"])
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for load in LOADERS:
        text = refusal(partial(load, folder), Reason.MODEL_NOT_FOUND)
        assert f"{folder} can't be loaded: " in text
        assert names[LAYER] in text


def test_a_checkpoint_of_pytorch_that_is_broken_is_no_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", lambda _: None)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 no archive")
    for load in LOADERS:
        assert f"{folder} can't be loaded: Pyt" in refusal(partial(load, folder), Reason.MODEL_NOT_FOUND)


def test_a_checkpoint_in_4_bit_loads_and_is_no_model_without_the_scales_of_its_scales(
    tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "quantised")
    load_for_evaluation(tiny_model).save_pretrained(tmp_path / "quantised")
    scale = f"{LAYER}.nested_absmax"
    folder = changed(tmp_path / "quantised", tmp_path / "model", lambda weights: weights.pop(scale))
    for load in LOADERS:
        load(tmp_path / "quantised")
        assert f"it lacks {scale}" in refusal(partial(load, folder), Reason.MODEL_NOT_FOUND)


def test_a_model_with_a_processor_is_trained_on_text_and_its_adapter_loads(tiny_model: Path, tmp_path: Path) -> None:
    engine = load_engine()
    from transformers import AutoProcessor

    from finetune_api.lora import LoraSpec
    from tiny_models import make_multimodal

    folder = make_multimodal(tiny_model, tmp_path / "model")
    assert type(AutoProcessor.from_pretrained(folder)).__name__ == "Gemma3Processor"
    assert load_tokenizer(source(folder)).chat_template
    base, tokenizer = engine.load_base(source(folder), 256, CPU, METHODS["QLoRA"])
    assert tokenizer("a b").input_ids
    assert tokenizer.chat_template
    adapted = engine.trainable("Disabled").add_adapter(base, LoraSpec(rank=2), source(folder))
    trained = [name for name, value in adapted.named_parameters() if value.requires_grad]
    assert trained
    assert all(".language_model." in name for name in trained)
    adapted.save_pretrained(tmp_path / "adapter")
    attach_adapter(load_for_evaluation(folder), tmp_path / "adapter")


def test_a_processors_template_is_its_tokenizers_and_one_without_a_tokenizer_is_refused() -> None:
    class Inner:
        chat_template = None

        def decode(self, ids: list[int]) -> str:
            return str(ids)

    class Processor:
        tokenizer: Inner | None = Inner()
        chat_template = "{{ messages }}"

    found: Any = text_tokenizer(Processor(), source(Path("m")))
    assert found.chat_template == "{{ messages }}"
    Processor.tokenizer = None
    text = refusal(lambda: text_tokenizer(Processor(), source(Path("m"))), Reason.MODEL_NOT_FOUND)
    assert text == "m brings a Processor without a text tokenizer: only text models can be trained"


def test_a_folder_without_a_tokenizer_is_told(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    text = refusal(lambda: load_tokenizer(source(tmp_path)), Reason.MODEL_NOT_FOUND)
    assert text.startswith(f"{tmp_path}: its tokenizer can't be loaded")


CUSTOM_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def with_own_code(tiny_model: Path, folder: Path) -> Path:
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnForCausalLM"}
    settings |= {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "auto_map": names}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own_code.py").write_text(CUSTOM_CODE)
    return folder


def test_a_models_own_code_runs_in_both_stages_only_where_the_profile_trusts_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_own_code(tiny_model, tmp_path / "own")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    assert "custom code" in refusal(lambda: load_base(source(folder), CPU), Reason.MODEL_NOT_FOUND)
    model: Any = load_base(source(folder, trust=True), CPU)
    assert type(model).__name__ == "OwnForCausalLM"
    assert context_of(load_config(source(folder, trust=True))) == 2048
    engine = load_engine()
    refusal(lambda: engine.load_base(source(folder), 256, CPU, METHODS["QLoRA"]), Reason.MODEL_NOT_FOUND)
    model, tokenizer = engine.load_base(source(folder, trust=True), 256, CPU, METHODS["QLoRA"])
    assert type(model).__name__ == "OwnForCausalLM"
    assert tokenizer("a").input_ids


def test_the_context_is_read_under_each_architectures_name(tiny_model: Path, tmp_path: Path) -> None:
    load_engine()
    from transformers import BloomConfig, GPT2Config

    assert context_of(load_config(source(tiny_model))) == 2048
    GPT2Config(n_positions=77).save_pretrained(tmp_path / "gpt2")
    assert context_of(load_config(source(tmp_path / "gpt2"))) == 77
    BloomConfig().save_pretrained(tmp_path / "bloom")  # positions without end
    assert context_of(load_config(source(tmp_path / "bloom"))) is None


def test_a_quantised_model_computes_in_32_bit_on_a_cpu_whatever_the_cpu_could_do_instead(tiny_model: Path) -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    model: Any = load_base(source(tiny_model), CPU)
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    torch.manual_seed(3)
    inputs = torch.randn(1, 8, layer.in_features)
    weights = dequantize_4bit(layer.weight.data, layer.weight.quant_state)  # before a pass could change how they lie
    with torch.inference_mode():
        found = layer(inputs)
    torch.testing.assert_close(found, inputs @ weights.T, rtol=1e-5, atol=1e-5)
