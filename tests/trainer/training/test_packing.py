"""Packed steps against unpacked ones on real models: the same losses and gradients, and models that can't are told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.packing import Layout
from tiny_architectures import ATTENTION, STATES, build
from trainer_inputs import refusal
from training_steps import CPU, take_steps

LEARNING = {"learningRate": "1e-2", "maxSteps": 3, "loggingSteps": 1, "warmupSteps": 0}
MIXED = (30, 7, 12, 1, 25, 4, 18, 9)
APART = (
    *("Llama", "Mistral, sliding window", "Qwen2", "Qwen3", "Qwen3-MoE", "Mixtral", "Gemma2", "Gemma3, alternating"),
    *("Phi-3", "GPT-2", "GPT-NeoX", "DeepSeek-V3"),
)
MIXING = (
    *("OPT", "Falcon", "Bloom", "MPT"),
    *("LFM2", "Qwen3-Next", "Qwen3.5", "Granite-4 hybrid", "Falcon-H1", "Bamba", "Mamba", "RWKV", "Mamba2", "Jamba"),
    *("RecurrentGemma", "MiniMax"),
)
LAYOUTS: tuple[Layout, ...] = ("Rows", "Flat")


def make_rows(lengths: tuple[int, ...], vocabulary: int = 512) -> list[TokenRow]:
    """Random tokens; the loss sees the second half of each row, and the whole of every third, its first token too."""
    source, rows = random.Random(3), []
    for place, length in enumerate(lengths):
        ids = [source.randrange(3, vocabulary) for _ in range(length)]
        hidden = 0 if place % 3 == 0 else length // 2
        rows.append(TokenRow(ids, [IGNORED] * hidden + ids[hidden:]))
    return rows


def batch_of(rows: list[TokenRow]) -> dict[str, Any]:
    """As the collator pads: on the right."""
    import torch

    longest = max(len(row.input_ids) for row in rows)
    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        padding = longest - len(row.input_ids)
        columns["input_ids"].append(row.input_ids + [2] * padding)
        columns["attention_mask"].append([1] * len(row.input_ids) + [0] * padding)
        columns["labels"].append(row.labels + [IGNORED] * padding)
    return {name: torch.tensor(values) for name, values in columns.items()}


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    load_engine()


def loss_and_gradients(model: Any, parts: list[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Of the mean over all label tokens, whatever the parts."""
    import torch

    model.zero_grad(set_to_none=True)
    count = sum(int((part["labels"][:, 1:] != IGNORED).sum()) for part in parts)
    total = 0.0
    for part in parts:
        inputs = {name: values for name, values in part.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), part["labels"][:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        (loss / count).backward()
        total += loss.item() / count
    return total, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", APART)
def test_a_packed_step_has_the_loss_and_the_gradient_of_its_rows_passed_one_by_one(name: str, layout: Layout) -> None:
    from finetune_trainer.training.micro_batches import parts_of

    model, rows = build(name), make_rows(MIXED)
    alone = [batch_of([row]) for row in rows if len(row.input_ids) > 1]  # one token predicts nothing
    expected, gradients = loss_and_gradients(model, alone)
    packed = parts_of(batch_of(rows), 2, layout)
    assert sum(part["input_ids"].numel() for part in packed) < len(rows) * max(MIXED)
    loss, found = loss_and_gradients(model, packed)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert found.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        assert (found[parameter] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, parameter
    both = [(found[parameter] - gradient).norm() ** 2 for parameter, gradient in gradients.items()]
    whole = sum(gradient.norm() ** 2 for gradient in gradients.values())
    assert (sum(both) / whole) ** 0.5 <= 1e-5


@pytest.mark.parametrize("name", APART)
def test_a_model_that_keeps_examples_apart_is_proven_to(name: str) -> None:
    from finetune_trainer.training.packed_attention import prove_packing

    rows = make_rows((30,) * 4)
    assert prove_packing(build(name), rows, 30, CPU).layout == "Rows"


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_examples_is_told_by_its_name(name: str) -> None:
    from finetune_trainer.training.packed_attention import prove_packing

    kind = (ATTENTION | STATES)[name][0]
    proof = prove_packing(build(name), make_rows((30,) * 4), 30, CPU)
    assert proof.layout is None
    assert proof.problem.startswith(f"{kind} with ")
    assert "mixes examples" in proof.problem


def test_every_architecture_is_in_one_of_the_lists() -> None:
    assert {*APART, *MIXING, "Llama 4, chunked"} == (ATTENTION | STATES).keys()


def test_chunks_that_are_counted_from_a_sequences_beginning_are_no_place_for_several_examples() -> None:
    from finetune_trainer.training.packed_attention import prove_packing

    model = build("Llama 4, chunked")  # in chunks of 8
    assert "chunks of 8 tokens" in prove_packing(model, make_rows((30,) * 4), 30, CPU).problem
    model.config.attention_chunk_size = 1024  # a packed sequence has no more, unless a row has
    assert prove_packing(model, make_rows((30,) * 4), 30, CPU).layout == "Rows"
    assert "chunks of 1024 tokens" in prove_packing(model, make_rows((30,) * 4), 1025, CPU).problem


def test_attention_that_overlooks_where_an_example_begins_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    from finetune_trainer.training.packed_attention import prove_packing

    model, rows = build("Llama"), make_rows((30,) * 4)
    assert prove_packing(model, rows, 30, CPU).layout == "Rows"
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    assert "mixes examples" in prove_packing(model, rows, 30, CPU).problem


def test_attention_that_takes_one_row_of_several_examples_only_gets_them_end_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import masking_utils

    from finetune_trainer.training.packed_attention import prove_packing

    find = masking_utils.find_packed_sequence_indices
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda ids: find(ids) if len(ids) == 1 else None)
    assert prove_packing(build("Llama"), make_rows((30,) * 4), 30, CPU).layout == "Flat"


def test_a_forward_that_takes_no_positions_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_trainer.training.packed_attention import prove_packing

    model = build("Llama")
    forward = model.forward

    def bare(input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    monkeypatch.setattr(model, "forward", bare)
    problem = prove_packing(model, make_rows((30,) * 4), 30, CPU).problem
    assert "llama with sdpa attention takes no packed examples (TypeError: " in problem
    assert "position_ids" in problem


def test_rows_without_tokens_enough_to_tell_prove_nothing() -> None:
    from finetune_trainer.training.packed_attention import prove_packing

    rows = [TokenRow([5] * 9, [5] * 9)] * 4
    # Copies of one token look the same whether they are seen twice or once.
    assert "don't tell" in prove_packing(build("Llama"), rows, 9, CPU).problem


def test_the_proof_leaves_random_states_gradients_and_mode_as_they_were() -> None:
    import torch

    from finetune_trainer.training.packed_attention import prove_packing

    model = build("GPT-2").train()  # with dropout of its own
    for mode in (True, False):
        model.train(mode)
        state = torch.get_rng_state()
        assert prove_packing(model, make_rows((30,) * 4), 30, CPU).layout == "Rows"
        assert torch.equal(torch.get_rng_state(), state)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(module.training is mode for module in model.modules())


def test_packed_positions_begin_anew_and_the_first_label_of_a_row_is_left_out() -> None:
    from finetune_trainer.training.micro_batches import lay_out, pack

    rows = [TokenRow([11, 12, 13, 14], [11, 12, 13, 14]), TokenRow([21], [21]), TokenRow([31, 32], [-100, 32])]
    (packed,) = pack(batch_of(rows), 2, "Rows")
    assert packed.batch["input_ids"].tolist() == [[11, 12, 13, 14, 31, 32, 21]]
    assert packed.batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 0]]
    assert packed.batch["labels"].tolist() == [[-100, 12, 13, 14, -100, 32, -100]]
    assert packed.places == [(0, 0, 0), (2, 0, 4), (1, 0, 6)]
    # Padding counts anew, too: it sees nothing, and nothing sees it.
    padded = lay_out(batch_of(rows), [[0], [1]], [4, 1, 2])
    assert padded.batch["input_ids"].tolist() == [[11, 12, 13, 14], [21, 0, 0, 0]]
    assert padded.batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]
    assert padded.batch["labels"].tolist() == [[-100, 12, 13, 14], [-100, -100, -100, -100]]


@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_the_proof_does_not_repack_4_bit_weights_as_evaluation_may(tiny_model: Path, dropout: str) -> None:
    import torch

    from finetune_api.lora import LoraSpec
    from finetune_trainer.models.methods import METHODS
    from finetune_trainer.sources.model import ModelSource
    from finetune_trainer.training.packed_attention import prove_packing

    engine, source = load_engine(), ModelSource(str(tiny_model), None, False)
    base, _ = engine.load_base(source, 64, CPU, METHODS["QLoRA"])
    model: Any = engine.trainable("Disabled").add_adapter(base, LoraSpec(rank=8, alpha=8, dropout=dropout), source)
    modes = {name: module.training for name, module in model.named_modules()}
    kinds = {type(module).__name__ for module in model.modules()}
    assert "Linear4bit" in kinds
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    assert prove_packing(model, make_rows((30,) * 4), 30, CPU).layout == "Rows"
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return TokenStore.of(make_rows(MIXED * 3))


@pytest.mark.parametrize("checkpointing", ["Disabled", "Enabled"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_training_takes_the_steps_of_unpacked_training_with_less_padding(
    make_config: Any, tmp_path: Path, store: TokenStore, layout: Layout, checkpointing: Any
) -> None:
    config = make_config(tmp_path, training={**LEARNING, "batchSize": 8})
    plain = take_steps(config, 3, rows=store, checkpointing=checkpointing)
    packed = take_steps(config, 3, rows=store, packed=layout, checkpointing=checkpointing)
    assert packed.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)
    assert packed.losses == pytest.approx(plain.losses, rel=1e-3)  # of steps taken by gradients that were rounded
    assert packed.gradient_norms[0] == pytest.approx(plain.gradient_norms[0], rel=1e-4)
    assert len(set(packed.losses)) == 3
    assert packed.trained.tokens == plain.trained.tokens == sum(MIXED * 3)
    assert packed.trained.padding < 0.8 * plain.trained.padding


def test_the_padding_that_is_told_is_that_of_the_tokens_computed(make_config: Any, tmp_path: Path) -> None:
    rows = TokenStore.of(make_rows((10, 4, 4, 2)))
    config = make_config(tmp_path, training={**LEARNING, "batchSize": 4, "maxSteps": 1})
    assert take_steps(config, 4, rows=rows).trained.padding == pytest.approx(1 - 20 / 40)
    assert take_steps(config, 4, rows=rows, packed="Rows").trained.padding == pytest.approx(0.0)


@pytest.mark.parametrize("lengths", [(9, 9, 9, 9), (9,)])
def test_a_step_of_one_row_or_of_equal_ones_is_the_unpacked_step_to_the_byte(
    make_config: Any, tmp_path: Path, lengths: tuple[int, ...]
) -> None:
    rows = TokenStore.of(make_rows(lengths))
    config = make_config(tmp_path, training={**LEARNING, "batchSize": len(lengths)})
    plain, packed = (take_steps(config, 4, rows=rows, packed=one) for one in (None, "Rows"))
    assert packed.losses == plain.losses
    assert all(packed.adapter[name].equal(value) for name, value in plain.adapter.items())


def test_with_dropout_packing_draws_other_numbers_and_a_seed_still_gives_the_same_adapter(
    make_config: Any, tmp_path: Path, store: TokenStore
) -> None:
    config = make_config(tmp_path, lora={"dropout": "0.1"}, training={**LEARNING, "batchSize": 8})
    plain, packed, again = (take_steps(config, 8, rows=store, packed=one) for one in (None, "Rows", "Rows"))
    assert packed.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)  # lora_B is zero before the first step
    assert packed.losses[1:] != plain.losses[1:]
    assert packed.losses == pytest.approx(plain.losses, rel=0.05)
    assert packed.losses == again.losses
    assert all(packed.adapter[name].equal(value) for name, value in again.adapter.items())


@pytest.mark.usefixtures("small_gpu")
def test_out_of_memory_halves_the_tokens_of_a_packed_pass(make_config: Any, tmp_path: Path, store: TokenStore) -> None:
    config = make_config(tmp_path, training={**LEARNING, "batchSize": 8})
    shrunk = take_steps(config, 4, may_shrink=True, rows=store, packed="Rows")
    assert shrunk.trained.micro_batch == 2
    assert shrunk.trained.tokens == sum(MIXED * 3)


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of more than 60 tokens run out of memory: two of the longest row."""
    import torch
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def fail(self: Any, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        if inputs["input_ids"].numel() > 60:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "compute_loss", fail)


def mixed_rows(folder: Path) -> None:
    """Rows of very different lengths, as a run reads them."""
    (folder / "rows").mkdir(parents=True)
    for split, count in (("train", 32), ("test", 4)):
        with (folder / "rows" / f"{split}.jsonl").open("w") as file:
            for number in range(count):
                words = " ".join(f"{split}{number}w{word}" for word in range(12 if number % 4 == 0 else 1))
                options = {"A": f"barn {number}", "B": f"wood {number}"}
                row = {"question": f"{words}?", "options": options, "answer": f"wood {number}", "answer_idx": "B"}
                file.write(json.dumps(row) + "\n")


def test_a_run_says_whether_it_packed_and_ends_alike(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.training.train import train

    results = {}
    for mode in ("Disabled", "Enabled", "Auto"):
        mixed_rows(tmp_path / mode)
        config = make_config(
            tmp_path / mode,
            dataset={"packing": mode},
            training={**LEARNING, "batchSize": 8, "microBatchSize": 8},
        )
        result = train(config, None).training
        assert result
        results[mode] = result
    assert {mode: result.packing for mode, result in results.items()} == {
        "Disabled": "Disabled",
        "Enabled": "Enabled",
        "Auto": "Enabled",
    }
    assert len({result.trained_tokens for result in results.values()}) == 1
    losses = [float(result.final_loss or 0) for result in results.values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)


def test_enabled_packing_of_a_model_that_mixes_examples_is_refused_by_the_models_name(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import masking_utils

    from finetune_trainer.training.train import train

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    mixed_rows(tmp_path)
    training = {**LEARNING, "batchSize": 8, "microBatchSize": 8}
    config = make_config(tmp_path, dataset={"packing": "Enabled"}, training=training)
    text = refusal(lambda: train(config, None), Reason.INVALID_SPEC)
    assert text.startswith("spec.dataset.packing Enabled: llama with sdpa attention mixes examples")
    auto = train(make_config(tmp_path, dataset={"packing": "Auto"}, training=training), None).training
    assert auto
    assert auto.packing
    assert auto.packing.startswith("Disabled: llama with sdpa attention mixes examples")
