"""Training steps on the tiny model: how a batch is split changes nothing, a seed gives the same adapter again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.run_folder import ROW_CACHE
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.engines import load_engine
from interrupted import train_until
from trainer_inputs import refusal
from training_steps import Steps, take_steps

CPU = Device("cpu", "CPU", 0, "float32")
LEARNING = {"learningRate": "1e-2", "maxSteps": 3, "loggingSteps": 1, "warmupSteps": 0}


def config_of(make_config: Any, folder: Path, **training: Any) -> RunConfig:
    # Dropout draws random numbers in each pass: an attempt that is begun anew must draw the same ones.
    config: RunConfig = make_config(folder, lora={"dropout": "0.1"}, training={**LEARNING, **training})
    return config


@pytest.fixture(scope="module")
def whole_batch(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return take_steps(make_config(tmp_path_factory.mktemp("whole"), training={**LEARNING, "batchSize": 7}), 7)


@pytest.mark.parametrize("micro_batch", [6, 4, 3, 1])
def test_micro_batches_that_need_not_divide_the_batch_give_its_losses_and_gradients(
    make_config: Any, tmp_path: Path, whole_batch: Steps, micro_batch: int
) -> None:
    split = take_steps(make_config(tmp_path, training={**LEARNING, "batchSize": 7}), micro_batch)
    assert len(split.losses) == 3
    assert split.losses == pytest.approx(whole_batch.losses, rel=1e-4)
    assert split.gradient_norms == pytest.approx(whole_batch.gradient_norms, rel=1e-3)
    assert len(set(split.losses)) == 3


def test_the_loss_on_all_tokens_is_split_as_rightly(make_config: Any, tmp_path: Path) -> None:
    training = {**LEARNING, "batchSize": 5, "lossOn": "All"}
    whole, split = (take_steps(make_config(tmp_path, training=training), micro) for micro in (5, 2))
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)
    assert split.gradient_norms == pytest.approx(whole.gradient_norms, rel=1e-3)


def test_the_same_seed_gives_the_same_adapter(make_config: Any, tmp_path: Path, whole_batch: Steps) -> None:
    again = take_steps(make_config(tmp_path, training={**LEARNING, "batchSize": 7}), 7)
    assert again.losses == whole_batch.losses
    assert all(again.adapter[name].equal(value) for name, value in whole_batch.adapter.items())


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Makes a pass run out of memory after its forward: one of more than ``rows`` rows, from the ``first`` pass on."""
    load_engine()
    import torch
    from trl import SFTTrainer

    def shrink(rows: int, first: int = 1) -> None:
        compute, passes = SFTTrainer.compute_loss, []

        def fail(self: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            loss = compute(self, model, inputs, *arguments, **options)
            passes.append(len(inputs["input_ids"]))
            if len(passes) >= first and len(inputs["input_ids"]) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return loss

        monkeypatch.setattr(SFTTrainer, "compute_loss", fail)

    return shrink


def test_out_of_memory_halves_an_automatic_micro_batch_on_the_trajectory_of_the_smaller_one(
    make_config: Any, tmp_path: Path, small_gpu: Callable[..., None]
) -> None:
    config = config_of(make_config, tmp_path, batchSize=7)
    expected = take_steps(config, 4)
    small_gpu(rows=5)
    shrunk = take_steps(config, 7, may_shrink=True)
    assert (shrunk.trained.micro_batch, shrunk.trained.memory_retries) == (4, 1)
    assert expected.trained.memory_retries == 0
    assert shrunk.losses == expected.losses
    assert shrunk.gradient_norms == expected.gradient_norms
    assert all(shrunk.adapter[name].equal(value) for name, value in expected.adapter.items())


def test_memory_that_runs_out_amid_a_later_step_drops_what_that_step_had_added_up(
    make_config: Any, tmp_path: Path, small_gpu: Callable[..., None]
) -> None:
    config = make_config(tmp_path, training={**LEARNING, "batchSize": 7})
    expected = take_steps(config, 4)
    small_gpu(rows=2, first=4)  # two passes a step: the second one of the second step
    shrunk = take_steps(config, 4, may_shrink=True)
    assert (shrunk.trained.micro_batch, shrunk.trained.memory_retries) == (2, 1)
    assert shrunk.losses == pytest.approx(expected.losses, rel=1e-4)
    assert shrunk.gradient_norms == pytest.approx(expected.gradient_norms, rel=1e-3)


def test_memory_that_runs_out_while_rows_are_measured_makes_measuring_smaller_and_no_step(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune_trainer.training.train import train

    load_engine()
    import torch
    from trl import SFTTrainer

    validated = {"dataset": {"validation": {"fraction": "0.3"}}, "training": {**LEARNING, "microBatchSize": 4}}
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    expected = train(make_config(tmp_path / "large", **validated), None)
    compute = SFTTrainer.compute_loss

    def fail(self: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled() and len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "compute_loss", fail)
    capsys.readouterr()
    result = train(make_config(tmp_path / "small", **validated), None)
    assert result.training
    assert expected.training
    assert "1 rows are measured at a time from here on" in capsys.readouterr().out
    assert (result.training.micro_batch_size, result.training.out_of_memory_retries) == (4, None)
    assert result.training.final_loss == expected.training.final_loss
    assert float(result.training.validation_loss or "nan") == pytest.approx(
        float(expected.training.validation_loss or "nan"), rel=1e-4
    )


@pytest.mark.parametrize(("micro_batch", "may_shrink", "rows"), [(4, False, 2), (2, True, 0)])
def test_a_micro_batch_set_by_hand_or_of_one_row_does_not_shrink(
    make_config: Any, tmp_path: Path, small_gpu: Callable[..., None], micro_batch: int, may_shrink: bool, rows: int
) -> None:
    import torch

    small_gpu(rows=rows)
    with pytest.raises(torch.OutOfMemoryError):
        take_steps(config_of(make_config, tmp_path), micro_batch, may_shrink)


def test_a_run_whose_micro_batch_shrank_says_so_and_a_cut_warm_up_too(
    make_config: Any, tmp_path: Path, small_gpu: Callable[..., None]
) -> None:
    from finetune_trainer.training.train import train

    small_gpu(rows=3)
    result = train(make_config(tmp_path, training={**LEARNING, "warmupSteps": 5}), None)
    assert result.training
    assert (result.training.micro_batch_size, result.training.warmup_steps) == (2, 1)
    assert result.training.out_of_memory_retries == 1
    messages = {advice.reason: advice.message for advice in result.advice}
    assert "went on with 2" in messages["MicroBatchLowered"]
    assert "1 were taken" in messages["WarmupCut"]


def test_memory_that_ran_out_before_a_restart_is_told_at_the_end(
    make_config: Any, tmp_path: Path, small_gpu: Callable[..., None]
) -> None:
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, training={**LEARNING, "maxSteps": 3})
    small_gpu(rows=3)
    train_until(config, 1)
    result = train(config, None)
    training, (advice,) = result.training, [one for one in result.advice if one.reason == "MicroBatchLowered"]
    assert training
    assert (training.resumed_from_step, training.micro_batch_size, training.out_of_memory_retries) == (1, 2, 1)
    assert "GPU memory ran out once" in advice.message


def test_the_adapter_is_saved_in_the_type_and_values_that_were_trained(
    make_config: Any, tmp_path: Path, whole_batch: Steps
) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    from finetune_api.uris import parse_claim
    from finetune_trainer.models.artefacts import save_adapter
    from finetune_trainer.stage.run_folder import RunFolder

    folder = RunFolder(tmp_path, parse_claim("pvc://work/out/0123"))
    save_adapter(whole_batch.model, whole_batch.tokenizer, folder)
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    trained = get_peft_model_state_dict(whole_batch.model)
    assert saved.keys() == trained.keys()
    assert all(saved[name].dtype == trained[name].dtype for name in saved)
    assert {str(weights.dtype) for weights in saved.values()} == {"torch.float32"}
    assert all(saved[name].equal(trained[name]) for name in saved)
    assert any(saved[name].abs().sum() > 0 for name in saved if "lora_B" in name)


def test_weights_that_were_trained_outlive_a_tokenizer_that_can_not_be_saved(
    tmp_path: Path, whole_batch: Steps
) -> None:
    from safetensors.torch import load_file

    from finetune_api.uris import parse_claim
    from finetune_trainer.models.artefacts import save_adapter
    from finetune_trainer.stage.run_folder import RunFolder

    class Full:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    full: Any = Full()
    folder = RunFolder(tmp_path, parse_claim("pvc://work/out/0123"))
    text = refusal(lambda: save_adapter(whole_batch.model, full, folder), Reason.STORAGE_FULL)
    assert "the trained weights are in adapter-unfinished of pvc://work/out/0123" in text
    assert load_file(tmp_path / "adapter-unfinished" / "adapter_model.safetensors")
    assert not folder.adapter.exists()


def test_trained_weights_are_kept_in_32_bit_whatever_a_library_did(whole_batch: Steps) -> None:
    import torch

    from finetune_trainer.training.engines.unsloth.trainer import keep_master_weights

    layer: Any = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    layer.lora_A = torch.nn.Linear(2, 2, bias=False, dtype=torch.bfloat16)
    keep_master_weights(layer, Device("cuda", "H100", 1, "bfloat16"))
    assert (layer.lora_A.weight.dtype, layer.bias.dtype) == (torch.float32, torch.bfloat16)


def test_a_step_in_which_the_loss_sees_nothing_is_refused_not_a_loss_of_zero(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.data.token_store import TokenStore
    from finetune_trainer.data.tokenize import TokenRow

    # The label of a row's first token predicts nothing, so that it sees nothing, too.
    rows = TokenStore.of([TokenRow([5, 6, 7], [5, -100, -100])] * 8)
    text = refusal(lambda: take_steps(make_config(tmp_path), 2, rows=rows), Reason.INVALID_SPEC)
    assert "the 4 rows of a step have no token that the loss sees" in text


def test_rows_without_a_label_add_nothing_to_a_step_of_others(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.data.token_store import TokenStore
    from finetune_trainer.data.tokenize import TokenRow

    seen, unseen = TokenRow([5, 6, 7], [-100, 6, 7]), TokenRow([8, 9], [-100, -100])
    config = make_config(tmp_path, training={**LEARNING, "maxSteps": 1})
    apart, whole = (take_steps(config, micro, rows=TokenStore.of([seen, unseen, unseen, seen])) for micro in (1, 4))
    assert apart.losses == pytest.approx(whole.losses, rel=1e-5)
    assert apart.gradient_norms == pytest.approx(whole.gradient_norms, rel=1e-4)


def test_rows_come_in_the_order_that_the_seed_gives_and_none_is_held_in_memory(
    make_config: Any, tmp_path: Path
) -> None:
    import torch

    from finetune_trainer.data.token_store import TokenStore
    from finetune_trainer.data.tokenize import TokenRow

    class Watched(TokenStore):
        read: list[int] = []

        def __getitem__(self, index: Any) -> Any:
            self.read.append(index)
            return super().__getitem__(index)

    rows = Watched.of([TokenRow([5, 6, number], [-100, 6, number]) for number in range(10, 22)])
    take_steps(make_config(tmp_path, training={**LEARNING, "batchSize": 4, "seed": 7}), 4, rows=rows)
    # As transformers samples: one permutation by a generator of the seed.
    assert Watched.read == torch.randperm(12, generator=torch.Generator().manual_seed(7)).tolist()


def test_a_loss_that_is_no_number_ends_the_run_at_its_first_step_and_the_file_tells(
    make_config: Any, tmp_path: Path, tiny_model: Path
) -> None:
    load_engine()
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
    (metrics,) = (tmp_path / "out").glob("*/metrics.jsonl")
    assert json.loads(metrics.read_text())["loss"] == "nan"


def test_a_target_that_is_no_linear_layer_inside_the_model_is_told_before_the_weights_are_loaded(
    make_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, lora={"targetModules": ["q_proj", "wqkv", "embed_tokens", "lm_head", "norm"]})
    with pytest.raises(StageError, match=r"spec\.lora\.targetModules: the model has no linear layer") as caught:
        train(config, None)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "wqkv, embed_tokens, lm_head, norm; it has down_proj, gate_proj, k_proj, o_proj, q_proj" in str(caught.value)
    assert "loading" not in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == [ROW_CACHE]  # a failed run leaves no folder


@pytest.fixture
def small_volume(mount_volume: Callable[[str], Path]) -> Path:
    return mount_volume("8m")


def test_a_volume_too_small_for_the_adapter_is_told_with_both_sizes_before_the_weights_are_loaded(
    make_config: Any, tmp_path: Path, small_volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune_api.config import ClaimMount
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, lora={"rank": 512}, output={"destination": "pvc://small/out"})
    config = config.model_copy(update={"mounts": [*config.mounts, ClaimMount(claim="small", path=str(small_volume))]})
    text = refusal(lambda: train(config, None), Reason.STORAGE_FULL)
    # 512 x 2,048 parameters in 32 bit, 3.4 MiB of tokenizer, both twice, and 1 MiB; three checkpoints of the parameters
    # and two moments of each.
    assert "pvc://small/out/" in text
    assert "has 8.0 MiB free, and the run will write up to 51.7 MiB" in text
    assert "loading" not in capsys.readouterr().out
    assert [path.name for path in (small_volume / "out").iterdir()] == [ROW_CACHE]


def test_rows_keep_to_the_models_context_so_that_nothing_stretches_its_positions(tiny_model: Path) -> None:
    from finetune_trainer.models.loading import context_of, load_config
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.models.reading import longest_row
    from finetune_trainer.sources.model import ModelSource

    engine, source = load_engine(), ModelSource(str(tiny_model), None, False)
    for wanted, longest in ((4096, 2048), (512, 512)):  # the tiny model's context is 2048
        limit = longest_row(wanted, context_of(load_config(source)))
        model: Any = engine.load_base(source, limit, CPU, METHODS["QLoRA"])[0]
        assert (limit, model.max_seq_length) == (longest, longest)
    assert longest_row(4096, None) == 4096


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
    load_engine()
    import torch

    from finetune_api.lora import LoraSpec
    from finetune_trainer.training.engines.unsloth.engine import check_trained_types

    layer: Any = torch.nn.Linear(2, 2, dtype=torch.float16)
    with pytest.raises(StageError, match=r"spec\.lora\.bias All: float16 can't train this model's biases") as caught:
        check_trained_types(layer, LoraSpec(bias="All"))
    assert caught.value.reason is Reason.INVALID_SPEC
    check_trained_types(layer.requires_grad_(False), LoraSpec())
    other: Any = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    check_trained_types(other, LoraSpec(bias="All"))


def test_a_bias_of_a_4_bit_layer_falls_back_to_its_inputs_type_which_is_why_float16_is_refused() -> None:
    load_engine()
    import bitsandbytes
    import torch

    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=True, compute_dtype=torch.float16, quant_type="nf4").to("cpu")
    layer.bias.data = layer.bias.data.float()
    layer(torch.zeros(1, 64, dtype=torch.float16))
    assert layer.bias.dtype == torch.float16
