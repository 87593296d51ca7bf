"""Every method, from rows to a scored artefact: what is trained, saved, loaded back, and continued."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_trainer.plan_command import show_plan
from trainer_inputs import folder_of, refusal, with_method

LEARNING = {"learningRate": "2e-2", "maxSteps": 30, "loggingSteps": 10}
# Parameters of the tiny model: hidden 64, keys and values 32, intermediate 128, two layers, 49,152 tokens, tied.
LAYER = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
BASE = 49152 * 64 + 2 * LAYER + 64
RANK_8 = 2 * (2 * 8 * (64 + 64) + 2 * 8 * (64 + 32) + 3 * 8 * (64 + 128))


def trained(config: RunConfig) -> StageResult:
    from finetune_trainer.training.train import train

    return train(config, None)


def scored(config: RunConfig) -> StageResult:
    from finetune_trainer.evaluation.evaluate import evaluate

    return evaluate(config, None)


def configured(make_config: Any, folder: Path, method: str, **sections: Any) -> RunConfig:
    return with_method(make_config(folder, training=LEARNING), method, **sections)


@pytest.mark.parametrize("method", ["QLoRA", "LoRA", "Full"])
def test_each_method_learns_saves_and_is_scored_from_what_it_saved(
    make_config: Any, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = {"learningRate": "3e-3"} if method == "Full" else {}
    config = configured(make_config, tmp_path, method, training=learning)
    result = trained(config)
    training = result.training
    assert training
    assert float(training.final_loss or "nan") < 0.5 * float(training.first_loss or "nan")
    full = method == "Full"
    assert training.trainable_parameters == (BASE if full else RANK_8)
    assert training.total_parameters == BASE + (0 if full else RANK_8)
    artefact = result.model if full else result.adapter
    assert artefact
    assert (result.adapter is None, result.model is None) == (full, not full)
    assert artefact.uri.endswith("/model" if full else "/adapter")
    output = capsys.readouterr().out
    assert ("in 4 bit (NF4)" in output) == (method == "QLoRA")
    assert f"loaded back: the saved {'model' if full else 'adapter'} answers as the trained model" in output
    evaluation = scored(config).evaluation
    assert evaluation
    perplexity = evaluation.metric("Perplexity")
    assert perplexity
    assert perplexity.base
    assert perplexity.tuned
    assert float(perplexity.tuned.value) < 0.7 * float(perplexity.base.value)
    assert trained(config).adapter == result.adapter  # found again


def test_a_full_model_is_one_that_plain_transformers_loads_with_the_weights_that_were_trained(
    make_config: Any, tmp_path: Path, tiny_model: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    config = configured(make_config, tmp_path, "Full", training={"maxSteps": 2})
    result = trained(config)
    assert result.model
    assert result.model.dtype == "bfloat16"
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder_of(config) / "model")
    assert model.dtype == torch.bfloat16
    before, after = load_file(tiny_model / "model.safetensors"), dict(model.named_parameters())
    changed = [name for name, value in before.items() if not value.to(torch.bfloat16).equal(after[name].data)]
    assert len(changed) > len(before) // 2


@pytest.mark.parametrize("method", ["QLoRA", "LoRA"])
def test_a_merged_model_answers_as_base_in_16_bit_and_adapter(
    make_config: Any, tmp_path: Path, tiny_model: Path, method: str
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    output = {"destination": "pvc://work/out", "formats": ["Adapter", "Merged16Bit"]}
    config = configured(make_config, tmp_path, method, output=output)
    result = trained(config)
    assert result.adapter
    assert result.model
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, folder_of(config) / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(folder_of(config) / "model", dtype=torch.float32)
    ids = torch.arange(100, 140)[None]
    with torch.no_grad():
        expected, found = tuned(input_ids=ids).logits, whole(input_ids=ids).logits
        with tuned.disable_adapter():
            untuned = tuned(input_ids=ids).logits
    assert float((expected - found).std() / expected.std()) < 0.02
    assert float((untuned - found).std() / expected.std()) > 0.2


def test_a_rank_stabilised_update_is_scaled_by_the_root_of_its_rank(make_config: Any, tmp_path: Path) -> None:
    config = configured(make_config, tmp_path, "LoRA", lora={"rankStabilized": True, "rank": 16, "alpha": 8})
    trained(config)
    settings = json.loads((folder_of(config) / "adapter" / "adapter_config.json").read_text())
    assert settings["use_rslora"] is True
    from finetune_trainer.models.loading import attach_adapter
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.sources.model import ModelSource
    from finetune_trainer.stage.device import Device

    source = ModelSource(settings["base_model_name_or_path"], None, False)
    model = attach_adapter(
        METHODS["LoRA"].load(source, Device("cpu", "CPU", 0, "float32")), folder_of(config) / "adapter"
    )
    scalings = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert scalings == {8 / math.sqrt(16)}


def test_a_layer_of_512_by_2048_at_rank_8_gives_20480_parameters() -> None:
    from torch import nn

    from finetune_api.lora import LoraSpec
    from finetune_trainer.models.adapter_targets import adapter_parameters

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(512, 2048)
            self.embed, self.head = nn.Embedding(9, 2), nn.Linear(2, 9)

        def get_input_embeddings(self) -> nn.Module:
            return self.embed

        def get_output_embeddings(self) -> nn.Module:
            return self.head

    model: Any = Model()
    assert adapter_parameters(model, LoraSpec(rank=8, target_modules=["inner"])) == 20_480


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # of GPT-2 the square weights lie the other way round, too
def test_loftq_begins_nearer_to_the_model_in_16_bit_than_nf4_is(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    import torch

    from finetune_api.lora import LoraSpec
    from finetune_trainer.models.answers_alike import answers_of
    from finetune_trainer.models.initialization import begin
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.sources.model import ModelSource
    from finetune_trainer.stage.device import Device
    from finetune_trainer.training.engines import load_engine
    from tiny_models import make_model

    cpu, engine = Device("cpu", "CPU", 0, "float32"), load_engine()
    source = ModelSource(str(make_model(kind, tiny_model, tmp_path / "model")), None, False)
    rows: Any = [type("Row", (), {"input_ids": list(range(start, start + 40))})() for start in (100, 700, 1300)]
    exact = answers_of(METHODS["LoRA"].load(source, cpu), rows, cpu)

    def with_adapter(initialization: str) -> float:
        lora = LoraSpec(rank=32, initialization=initialization)
        base, _ = engine.load_base(source, 64, cpu, METHODS["QLoRA"])
        model = engine.trainable("Disabled").add_adapter(base, lora, source)
        begin(model, lora, source)
        with torch.no_grad():
            return exact.distance(answers_of(model, rows, cpu))

    plain, loftq = with_adapter("Default"), with_adapter("LoftQ")
    assert plain > 0.01  # what NF4 rounds away
    assert loftq < 0.7 * plain


def test_a_weight_that_is_no_number_is_told_as_the_models_where_an_adapter_would_begin_with_it() -> None:
    import torch

    from finetune_trainer.models.initialization import low_rank

    weight = torch.ones(4, 4)
    weight[1, 2] = float("nan")
    assert "a weight of the base model is no number" in refusal(lambda: low_rank(weight, 2), Reason.MODEL_NOT_FOUND)


@pytest.mark.parametrize(("method", "initialization"), [("QLoRA", "LoftQ"), ("LoRA", "PiSSA")])
def test_other_beginnings_learn_and_their_adapter_fits_the_base_model_as_it_is(
    make_config: Any, tmp_path: Path, method: str, initialization: str
) -> None:
    lora = {"initialization": initialization, "alpha": 16}
    config = configured(make_config, tmp_path, method, lora=lora, training={"learningRate": "5e-3"})
    result = trained(config)  # which loads it back onto the base, and compares
    assert result.training
    assert float(result.training.final_loss or "nan") < 0.7 * float(result.training.first_loss or "nan")
    settings = json.loads((folder_of(config) / "adapter" / "adapter_config.json").read_text())
    assert settings["r"] == (16 if initialization == "PiSSA" else 8)
    assert settings["init_lora_weights"] is True
    evaluation = scored(config).evaluation
    assert evaluation
    perplexity = evaluation.metric("Perplexity")
    assert perplexity
    assert perplexity.base
    assert perplexity.tuned
    assert float(perplexity.tuned.value) < float(perplexity.base.value)


@pytest.fixture(scope="module")
def june(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, StageResult]:
    """A first adapter."""
    config = configured(make_config, tmp_path_factory.mktemp("june"), "QLoRA")
    return config, trained(config)


def continued(make_config: Any, folder: Path, june: RunConfig, **sections: Any) -> RunConfig:
    shutil.copytree(folder_of(june) / "adapter", folder / "june")
    base = make_config(folder).spec.model.to_api()
    return configured(
        make_config, folder, "QLoRA", model={**base, "adapter": {"source": "pvc://work/june"}}, **sections
    )


def test_training_continues_from_an_earlier_adapter_and_says_which(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult]
) -> None:
    config = continued(make_config, tmp_path, june[0], training={"maxSteps": 2, "learningRate": "1e-6"})
    result = trained(config)
    assert result.training
    assert june[1].training
    # Where the first one ended, and not where it began.
    assert float(result.training.first_loss or "nan") < 1.5 * float(june[1].training.final_loss or "nan")
    assert result.lineage
    assert result.lineage.adapter_sha256
    assert config.training_sha256 != june[0].training_sha256


def test_consolidation_beside_an_earlier_adapter_begins_without_a_penalty(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult]
) -> None:
    consolidation = {"elasticWeightConsolidation": {"strength": "1e3", "maxExamples": 4}}
    replay = {"replay": {"source": "pvc://work/rows", "fraction": "0"}}
    training = {"maxSteps": 3, "loggingSteps": 1, **consolidation}
    config = continued(make_config, tmp_path, june[0], dataset=replay, training=training)
    text = refusal(lambda: trained(config), Reason.DATASET_INVALID)  # they repeat the training rows
    assert "none of the rows of spec.dataset.replay is left to look at" in text
    dataset = {**replay, "filters": {"maxOverlap": "1", "deduplication": "None"}}
    shutil.rmtree(tmp_path / "june")
    config = continued(make_config, tmp_path, june[0], dataset=dataset, training=training)
    trained(config)
    lines = [json.loads(line) for line in (folder_of(config) / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["penalty"] == 0  # what is held is the adapter that it continues from
    assert lines[-1]["penalty"] > 0


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 4}, "has rank 8, and spec.lora says 4"),
        ({"alpha": 32}, "has alpha 16, and spec.lora says 32"),
        ({"rankStabilized": True}, "has rankStabilized False"),
        ({"targetModules": ["q_proj"]}, "does not fit model and spec.lora: it has"),
    ],
)
def test_an_adapter_that_the_spec_does_not_describe_is_refused(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult], lora: dict[str, Any], message: str
) -> None:
    config = continued(make_config, tmp_path, june[0], lora=lora)
    assert message in refusal(lambda: trained(config), Reason.INVALID_SPEC)


def test_a_plan_refuses_an_adapter_that_the_spec_does_not_describe_as_the_training_would(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_plan(continued(make_config, tmp_path, june[0]), ()) == 0
    capsys.readouterr()
    shutil.rmtree(tmp_path / "june")
    assert show_plan(continued(make_config, tmp_path, june[0], lora={"rank": 4}), ()) == 64
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("InvalidSpec: spec.model.adapter ")
    assert "has rank 8, and spec.lora says 4" in line


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha_pattern": {"q_proj": 64}}, "has alpha_pattern, which can't be continued"),
        ({"rank_pattern": {"q_proj": 4}}, "has rank_pattern, which can't be continued"),
        ({"use_dora": True}, "has use_dora, which can't be continued"),
        ({"init_lora_weights": "pissa_niter_4"}, "with which PEFT changes the base model's weights"),
        ({"init_lora_weights": "olora"}, "with which PEFT changes the base model's weights"),
    ],
)
def test_an_adapter_of_another_tool_whose_weights_would_mean_something_else_here_is_refused(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult], settings: dict[str, Any], message: str
) -> None:
    config = continued(make_config, tmp_path, june[0])
    file = tmp_path / "june" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    assert message in refusal(lambda: trained(config), Reason.INVALID_SPEC)


def test_an_adapter_of_another_base_is_refused_by_its_shapes(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult]
) -> None:
    from safetensors.torch import load_file, save_file

    config = continued(make_config, tmp_path, june[0])
    file = tmp_path / "june" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("q_proj.lora_A.weight"))
    weights[name] = weights[name][:, :-1].contiguous()
    save_file(weights, file)
    assert "is of another base model: its" in refusal(lambda: trained(config), Reason.INVALID_SPEC)


def test_a_folder_without_an_adapter_and_a_broken_one_are_told(
    make_config: Any, tmp_path: Path, june: tuple[RunConfig, StageResult]
) -> None:
    config = continued(make_config, tmp_path, june[0])
    (tmp_path / "june" / "adapter_model.safetensors").write_bytes(b"\x10")
    assert "can't be read" in refusal(lambda: trained(config), Reason.MODEL_NOT_FOUND)
    (tmp_path / "june" / "adapter_config.json").unlink()
    assert "has no adapter_config.json" in refusal(lambda: trained(config), Reason.MODEL_NOT_FOUND)


def quantised(tiny_model: Path, folder: Path) -> Path:
    """A checkpoint in 4 bit, such as the hub's of a name that ends in bnb-4bit."""
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.sources.model import ModelSource
    from finetune_trainer.stage.device import Device
    from finetune_trainer.training.engines import load_engine

    load_engine()
    shutil.copytree(tiny_model, folder)
    model = METHODS["QLoRA"].load(ModelSource(str(tiny_model), None, False), Device("cpu", "CPU", 0, "float32"))
    model.save_pretrained(folder)
    return folder


BOTH = {"destination": "pvc://work/out", "formats": ["Adapter", "Merged16Bit"]}


@pytest.mark.parametrize(
    ("method", "sections", "message"),
    [
        ("LoRA", {}, "method LoRA needs them in 16 bit"),
        ("Full", {}, "method Full needs them in 16 bit"),
        ("QLoRA", {"lora": {"initialization": "LoftQ"}}, "lora.initialization LoftQ needs them in 16 bit"),
        ("QLoRA", {"output": BOTH}, "output format Merged16Bit needs them in 16 bit"),
    ],
)
def test_a_checkpoint_in_4_bit_is_refused_before_training_where_16_bit_are_needed(
    make_config: Any, tmp_path: Path, tiny_model: Path, method: str, sections: dict[str, Any], message: str
) -> None:
    folder = quantised(tiny_model, tmp_path / "quantised")
    model = {"source": "pvc://work/quantised"}
    config = configured(make_config, tmp_path, method, model=model, **sections)
    assert f"{folder} holds quantised weights, and {message}" in refusal(lambda: trained(config), Reason.INVALID_SPEC)
    assert not (folder_of(config) / "metrics.jsonl").exists()


def test_a_saved_artefact_that_answers_otherwise_is_no_success(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.models import artefacts

    save = artefacts.save_adapter

    def zeroed(model: Any, tokenizer: Any, folder: Any, rewrite: Any) -> Any:
        import torch

        for name, value in model.named_parameters():
            if "lora_B" in name:
                with torch.no_grad():
                    value.zero_()
        return save(model, tokenizer, folder, rewrite)

    monkeypatch.setattr("finetune_trainer.training.saving.save_adapter", zeroed)
    config = configured(make_config, tmp_path, "QLoRA")
    text = refusal(lambda: trained(config), Reason.ARTIFACT_MISMATCH)
    assert "does not answer as the trained one: logits differ by" in text
    assert not (folder_of(config) / "result.json").exists()
