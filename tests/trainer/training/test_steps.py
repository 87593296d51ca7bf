"""Training steps on the tiny model: how a batch is split changes nothing, a seed gives the same losses again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_template import read_chat_format
from finetune_trainer.data.load import load_rows
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.sources.model import find_model
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.run_folder import open_run_folder
from finetune_trainer.training.plan import StepPlan
from finetune_trainer.training.reporter import StepReporter

CPU = Device("cpu", "CPU", 0, "float32")


@dataclass(frozen=True)
class Steps:
    """A few steps, and the model after them."""

    losses: list[float]
    model: Any
    tokenizer: Any


def take_steps(config: RunConfig, micro_batch: int) -> Steps:
    from finetune_trainer.models.training_model import add_adapter, load_base
    from finetune_trainer.training.engines.unsloth.trainer import build_trainer

    spec = config.spec
    assert spec.lora
    source = find_model(config, "")
    base = load_base(source, spec, CPU)
    rows = load_rows(config, spec.dataset, "", spec.dataset.columns).rows
    tokens = tokenise(rows, spec, read_chat_format(base.tokenizer), base.max_length)
    plan = StepPlan(micro_batch, spec.training.batch_size // micro_batch, "Disabled")
    model = add_adapter(base, spec.lora, plan.checkpointing, source)
    reporter = StepReporter(None)
    scratch = str(config.local_path(config.run_uri))
    build_trainer(model, base.tokenizer, tokens.rows, spec, plan, CPU, reporter, scratch).train()
    return Steps([entry.loss for entry in reporter.history], model, base.tokenizer)


@pytest.fixture(scope="module")
def whole_batch(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return take_steps(make_config(tmp_path_factory.mktemp("whole"), training={"learningRate": "1e-2"}), 4)


@pytest.mark.parametrize("micro_batch", [2, 1])
def test_accumulated_micro_batches_give_the_losses_of_the_whole_batch(
    make_config: Any, tmp_path: Path, whole_batch: Steps, micro_batch: int
) -> None:
    split = take_steps(make_config(tmp_path, training={"learningRate": "1e-2"}), micro_batch)
    assert len(split.losses) == 2
    assert split.losses == pytest.approx(whole_batch.losses, rel=1e-4)
    assert split.losses[0] != split.losses[1]


def test_the_same_seed_gives_the_same_losses(make_config: Any, tmp_path: Path, whole_batch: Steps) -> None:
    assert take_steps(make_config(tmp_path, training={"learningRate": "1e-2"}), 4).losses == whole_batch.losses


def test_the_adapter_is_saved_in_the_type_and_values_that_were_trained(
    make_config: Any, tmp_path: Path, whole_batch: Steps
) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    from finetune_trainer.models.adapter_files import save_adapter

    config = make_config(tmp_path)
    folder = open_run_folder(config)
    save_adapter(whole_batch.model, whole_batch.tokenizer, config, folder)
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    trained = get_peft_model_state_dict(whole_batch.model)
    assert saved.keys() == trained.keys()
    assert all(saved[name].dtype == trained[name].dtype for name in saved)
    assert {str(weights.dtype) for weights in saved.values()} == {"torch.float32"}  # as the CPU computes
    assert all(saved[name].equal(trained[name]) for name in saved)
    assert any(saved[name].abs().sum() > 0 for name in saved if "lora_B" in name)


def test_a_loss_that_is_no_number_ends_the_run_at_its_first_step(
    make_config: Any, tmp_path: Path, tiny_model: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from finetune_trainer.training.train import train

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="the loss is nan at step 1 of 2") as caught:
        train(make_config(tmp_path, model=broken), None)
    assert caught.value.reason is Reason.LOSS_DIVERGED


def test_a_target_that_is_no_linear_layer_inside_the_model_is_named_with_those_there_are(
    make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, lora={"targetModules": ["q_proj", "wqkv", "embed_tokens", "lm_head", "norm"]})
    with pytest.raises(StageError, match=r"spec\.lora\.targetModules: the model has no linear layer") as caught:
        train(config, None)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "wqkv, embed_tokens, lm_head, norm; it has down_proj, gate_proj, k_proj, o_proj, q_proj" in str(caught.value)


def test_rows_keep_to_the_models_context_so_that_nothing_stretches_its_positions(
    make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.models.training_model import load_base

    config = make_config(tmp_path)
    model = config.spec.model
    for wanted, longest in ((4096, 2048), (512, 512)):  # the tiny model's context is 2048
        spec = config.spec.model_copy(update={"model": model.model_copy(update={"max_sequence_length": wanted})})
        base = load_base(find_model(config, ""), spec, CPU)
        assert (base.max_length, base.model.max_seq_length) == (longest, longest)


def test_a_model_of_an_unknown_architecture_is_told_in_the_librarys_words(
    make_config: Any, tmp_path: Path, tiny_model: Path
) -> None:
    from finetune_trainer.training.train import train

    unknown = tmp_path / "unknown"
    shutil.copytree(tiny_model, unknown)
    (unknown / "config.json").write_text('{"model_type": "nosuch"}')
    with pytest.raises(StageError, match="can't be loaded: The checkpoint you are trying to load has model type") as no:
        train(make_config(tmp_path, model=unknown), None)
    assert no.value.reason is Reason.MODEL_NOT_FOUND


def test_a_model_folder_without_weights_is_no_model(make_config: Any, tmp_path: Path, tiny_model: Path) -> None:
    from finetune_trainer.training.train import train

    empty = tmp_path / "empty"
    shutil.copytree(tiny_model, empty)
    (empty / "model.safetensors").unlink()
    with pytest.raises(StageError, match="can't be loaded") as caught:
        train(make_config(tmp_path, model=empty), None)
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


def test_biases_that_would_train_in_float16_are_refused() -> None:
    import torch

    from finetune_api.spec import LoraSpec
    from finetune_trainer.models.training_model import check_trained_types

    layer = torch.nn.Linear(2, 2, dtype=torch.float16)
    with pytest.raises(StageError, match=r"spec\.lora\.bias All: float16 can't train this model's biases") as caught:
        check_trained_types(layer, LoraSpec(bias="All"))
    assert caught.value.reason is Reason.INVALID_SPEC
    check_trained_types(layer.requires_grad_(False), LoraSpec())
    check_trained_types(torch.nn.Linear(2, 2, dtype=torch.bfloat16), LoraSpec(bias="All"))


def test_a_bias_of_a_4_bit_layer_falls_back_to_its_inputs_type_which_is_why_float16_is_refused() -> None:
    import bitsandbytes
    import torch

    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=True, compute_dtype=torch.float16, quant_type="nf4").to("cpu")
    layer.bias.data = layer.bias.data.float()
    layer(torch.zeros(1, 64, dtype=torch.float16))
    assert layer.bias.dtype == torch.float16
