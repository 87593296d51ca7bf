"""Replay and elastic weight consolidation against forgetting, and the numbers that they are made of."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import TokenRow
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from forgetting import REPLAYED, Study, consolidated, learn_first_task, old_perplexity_at
from trainer_inputs import run_config

CPU = Device("cpu", "CPU", 0, "float32")
ROWS = [
    TokenRow(list(range(10, 30)), [-100] * 10 + list(range(20, 30))),
    TokenRow(list(range(300, 312)), [-100] * 4 + list(range(304, 312))),
]


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return learn_first_task(tmp_path_factory.mktemp("study"), tiny_model)


def test_replay_and_consolidation_each_forget_less_at_the_same_loss_of_the_new_task(study: Study) -> None:
    """The small form of the study in tests/trainer/long."""
    plain = study.learn(1, 30)
    replayed, held = study.learn(1, 30, **REPLAYED), study.learn(1, 30, **consolidated("1e5"))
    assert plain[0].old_perplexity < 1.2  # the first task is known when the second begins
    level = 1.05 * max(points[-1].new_loss for points in (plain, replayed, held))
    assert level < 0.15 * plain[0].new_loss  # the second is learnt
    forgotten = old_perplexity_at(plain, level) - plain[0].old_perplexity
    assert forgotten > 0.5
    for points in (replayed, held):
        assert old_perplexity_at(points, level) - points[0].old_perplexity < 0.6 * forgotten


def test_what_was_forgotten_stands_in_the_result_of_training_and_evaluation(study: Study) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    config = run_config(study.spec(2, 12, **REPLAYED), {"work": study.folder, "model": study.model.parent})
    trained, scored = train(config, None), evaluate(config, None)
    assert trained.training
    assert trained.dataset
    points = trained.training.retention
    assert [point.step for point in points] == [0, 2, 4, 6, 8, 10, 12]
    retention = scored.evaluation.retention if scored.evaluation else None
    assert retention
    assert retention.examples == 32
    perplexity, accuracy = retention.metrics
    assert (perplexity.name, accuracy.name) == ("Perplexity", "Accuracy")
    assert perplexity.base
    assert perplexity.tuned
    assert accuracy.base
    # Two ways to one number: the training loop's own pass, and the evaluation's scores of the saved model, which has
    # been rounded to 16 bit.
    assert float(perplexity.base.value) == pytest.approx(float(points[0].perplexity), rel=2e-3)
    assert float(perplexity.tuned.value) == pytest.approx(float(points[-1].perplexity), rel=2e-2)
    assert float(accuracy.base.value) > 0.9
    mixed = {one.name: one.rows for one in trained.dataset.sources}
    assert mixed == {"dataset": 64, "replay": 27}  # 30% of all


def model_of(tiny_model: Path) -> Any:
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.training.engines import load_engine

    load_engine()
    return METHODS["LoRA"].load(ModelSource(str(tiny_model), None, False), CPU)


def row_losses(model: Any) -> list[Any]:
    """Of each row by transformers' own loss."""
    import torch

    return [
        model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels]), use_cache=False).loss
        for row in ROWS
    ]


def test_the_information_of_weights_and_of_updates_is_the_mean_square_of_each_rows_gradient(tiny_model: Path) -> None:
    import torch

    from finetune_trainer.training.consolidation import update_fisher, weight_fisher

    model = model_of(tiny_model)
    names = [f"model.layers.{layer}.{kind}" for layer in (0, 1) for kind in ("self_attn.q_proj", "mlp.down_proj")]
    expected = {}
    for name in names:
        weight = model.get_submodule(name).weight.requires_grad_()
        gradients = [torch.autograd.grad(loss, weight)[0] for loss in row_losses(model)]
        expected[name] = sum(gradient**2 for gradient in gradients) / len(gradients)
    rows = TokenStore.of(ROWS)
    some: Any = [rows[0], rows[1]]
    updates = update_fisher(model, lambda name: name in names, some, CPU)
    assert all(value.grad is None for value in model.parameters())  # they would take the model's memory once more
    assert updates.keys() == set(names)
    weights = weight_fisher(model, some, CPU)
    for name in names:
        torch.testing.assert_close(updates[name], expected[name], rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(weights[f"{name}.weight"], expected[name], rtol=1e-4, atol=1e-12)


def test_a_layers_gradient_is_counted_and_gone_before_that_of_the_layer_below_it_comes(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from finetune_trainer.training import consolidation

    model = model_of(tiny_model)
    inside: list[bool] = []
    add_up = consolidation.add_up

    def noted(total: Any, square: Any, draw: Any) -> None:
        inside.append(torch._C._current_graph_task_id() >= 0)  # of the backward pass
        add_up(total, square, draw)

    monkeypatch.setattr(consolidation, "add_up", noted)
    found = consolidation.update_fisher(model, lambda name: name.endswith("_proj"), TokenStore.of(ROWS), CPU)
    assert inside == [True] * len(found) * len(ROWS)


def test_the_information_of_a_layer_whose_output_is_changed_in_place_is_that_of_autograd(
    tiny_model: Path, tmp_path: Path
) -> None:
    from finetune_trainer.training.engines import load_engine

    load_engine()
    import torch

    from finetune_trainer.training.consolidation import update_fisher
    from tiny_models import make_model

    model = model_of(make_model("falcon", tiny_model, tmp_path / "model"))  # adds its attention to its MLP in place
    names = ["transformer.h.0.mlp.dense_4h_to_h", "transformer.h.1.self_attention.query_key_value"]
    expected = {}
    for name in names:
        weight = model.get_submodule(name).weight
        gradients = [torch.autograd.grad(loss, weight)[0] for loss in row_losses(model)]
        expected[name] = sum(gradient**2 for gradient in gradients) / len(gradients)
    found = update_fisher(model, lambda name: name in names, ROWS, CPU)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-12)


def test_information_that_is_kept_in_16_bit_does_not_stand_still_after_some_hundred_rows() -> None:
    import torch

    from finetune_trainer.training.consolidation import add_up

    total, draw = torch.zeros(100, dtype=torch.bfloat16), torch.Generator().manual_seed(0)
    for _ in range(3000):
        add_up(total, torch.full((100,), 1e-3), draw)
    assert float(total.float().mean()) == pytest.approx(3.0, rel=0.02)
    assert float(total.float().std()) < 0.3


@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_a_penalty_and_its_gradient_are_those_of_autograd(tiny_model: Path, rank_stabilized: bool) -> None:
    import torch

    from finetune_api.lora import LoraSpec
    from finetune_trainer.training.consolidation import update_penalty, weight_penalty
    from finetune_trainer.training.engines import load_engine

    generator = torch.Generator().manual_seed(0)
    model = model_of(tiny_model)
    full = weight_penalty(3.0, {"model.norm.weight": torch.rand(64, generator=generator)}, model)
    weight = full.weights["model.norm.weight"]
    weight.data += torch.randn(64, generator=generator)
    change = weight.detach().clone().requires_grad_()
    value = 1.5 * (full.fisher["model.norm.weight"] * (change - full.reference["model.norm.weight"]) ** 2).sum()
    value.backward()
    assert full.add_gradient(2.0) == pytest.approx(float(value), rel=1e-5)
    torch.testing.assert_close(weight.grad, 2.0 * change.grad)

    lora = LoraSpec(rank=4, alpha=8, rank_stabilized=rank_stabilized, target_modules=["q_proj"])
    source = ModelSource(str(tiny_model), None, False)
    adapted: Any = load_engine().trainable("Disabled").add_adapter(model_of(tiny_model), lora, source)
    name = "model.layers.1.self_attn.q_proj"
    penalty = update_penalty(3.0, {name: torch.rand(64, 64, generator=generator)}, adapted)
    layer = penalty.layers[name]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    up.data += torch.randn(64, 4, generator=generator)
    down.data += torch.randn(4, 64, generator=generator)
    a, b = down.detach().clone().requires_grad_(), up.detach().clone().requires_grad_()
    before_b, before_a = penalty.reference[name]
    scaling = 8 / (2 if rank_stabilized else 4)
    value = 1.5 * (penalty.fisher[name] * (scaling * (b @ a - before_b @ before_a)) ** 2).sum()
    value.backward()
    assert penalty.add_gradient(2.0) == pytest.approx(float(value), rel=1e-5)
    torch.testing.assert_close(down.grad, 2.0 * a.grad)
    torch.testing.assert_close(up.grad, 2.0 * b.grad)


def test_fewer_rows_to_replay_than_asked_for_are_all_taken_and_told(study: Study) -> None:
    from finetune_trainer.training.train import train

    few = {"dataset": {"replay": {"source": "pvc://work/homes", "fraction": "0.5", "maxExamples": 10}}}
    config = run_config(study.spec(3, 1, **few), {"work": study.folder, "model": study.model.parent})
    result = train(config, None)
    assert result.dataset
    assert {one.name: one.rows for one in result.dataset.sources} == {"dataset": 64, "replay": 10}
    (told,) = (advice.message for advice in result.advice if advice.reason == "FewReplayRows")
    assert "has 10 rows, 13.5% of all, where fraction asks for 50.0%" in told


def test_what_was_measured_on_one_jobs_retention_rows_is_not_told_of_anothers(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of one training share its folder, and retention rows are no part of the training."""
    from finetune_trainer.stage.failure import StageError
    from finetune_trainer.stage.interruption import INTERRUPTION
    from finetune_trainer.training.reporter import StepReporter
    from finetune_trainer.training.train import train

    def job(uid: str, lines: slice) -> Any:
        config = make_config(tmp_path, uid, evaluation=retention, training={"maxSteps": 4})
        rows = (tmp_path / "rows" / "test.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "rows" / "general.jsonl").write_text("".join(rows[lines]))
        return config

    retention = {"retention": {"source": "pvc://work/rows", "split": "general"}}
    told = StepReporter.step

    def stop(self: Any, entry: Any, total: int) -> None:
        told(self, entry, total)
        if entry.step == 2:
            INTERRUPTION.requested = signal.SIGTERM

    monkeypatch.setattr(StepReporter, "step", stop)
    try:
        with pytest.raises(StageError, match="stopped by SIGTERM"):
            train(job("uid-1", slice(0, 4)), None)
    finally:
        INTERRUPTION.requested = None
    monkeypatch.setattr(StepReporter, "step", told)

    second = train(job("uid-2", slice(4, 8)), None)
    assert second.training
    assert second.training.resumed_from_step == 0
    assert [point.step for point in second.training.retention] == [0, 1, 2, 3, 4]
    same, other = train(job("uid-3", slice(4, 8)), None), train(job("uid-4", slice(8, 12)), None)
    assert same.reused
    assert other.reused
    assert same.training == second.training
    assert other.training
    assert other.training.retention == []
    assert other.training.final_loss == second.training.final_loss
