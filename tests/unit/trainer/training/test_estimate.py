"""Memory of a run on a GPU, against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_api.defaults import ResolvedTraining
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.sizes import Sizes
from finetune_trainer.training.estimate import (
    CUDA_BYTES,
    GIB,
    Estimate,
    Parameters,
    estimate,
    frozen_bytes,
    parameters_of,
    trained_bytes,
)
from finetune_trainer.training.plan import ModelShape

# Llama-3.2-1B: 16 layers with seven projections of 60,817,408 weights together, and an adapter of rank 16 on them.
SHAPE = ModelShape(layers=16, hidden=2048, intermediate=8192, vocabulary=128256)
PARAMETERS = Parameters(quantised=16 * 60_817_408, other=262_735_872, trained=11_272_192)


def settings(**training: Any) -> ResolvedTraining:
    return ResolvedTraining(learning_rate="2e-4", **training)


def on(gpu: int, longest: int = 800, **training: Any) -> Estimate:
    return estimate(PARAMETERS, SHAPE, settings(**training), longest, gpu)


def test_a_weight_in_four_bit_takes_0_53_bytes_and_any_other_two() -> None:
    assert frozen_bytes(Parameters(quantised=1000, other=100, trained=10)) == 530 + 200
    assert frozen_bytes(PARAMETERS) == 515_731_619 + 525_471_744


@pytest.mark.parametrize(("optimizer", "each"), [("AdamW8bit", 4 + 4 + 2), ("AdamW", 4 + 4 + 8)])
def test_a_trained_parameter_has_a_gradient_and_two_moments(optimizer: Any, each: int) -> None:
    assert trained_bytes(Parameters(1000, 100, 10), settings(optimizer=optimizer)) == 10 * each


def test_methods_differ_in_what_is_quantised_and_in_what_is_trained() -> None:
    adapter, full = Sizes(base=1100, trained=10), Sizes(base=1100, trained=1100)
    assert parameters_of(METHODS["QLoRA"], adapter, linear=1000) == Parameters(1000, 100, 10)
    assert parameters_of(METHODS["LoRA"], adapter, linear=1000) == Parameters(0, 1100, 10)
    assert parameters_of(METHODS["Full"], full, linear=1000) == Parameters(0, 0, 1100)


def test_consolidation_takes_two_bytes_for_each_weight_that_it_holds_and_four_for_each_that_is_trained() -> None:
    held = replace(PARAMETERS, held=PARAMETERS.quantised)
    plain, consolidated = on(16 * GIB), estimate(held, SHAPE, settings(), 800, 16 * GIB)
    assert consolidated.consolidation == 2 * PARAMETERS.quantised + 4 * PARAMETERS.trained
    assert consolidated.together - plain.together == consolidated.consolidation
    assert parameters_of(METHODS["Full"], Sizes(base=1100, trained=1100), 1000, held=1100).held == 1100


def test_weights_that_are_trained_themselves_lie_in_32_bit_before_the_first_step() -> None:
    full = Parameters(0, 0, 1_235_814_400)
    found = estimate(full, SHAPE, settings(batch_size=64), 2048, 16 * GIB)
    assert (found.frozen, found.trained) == (0, 10 * 1_235_814_400)
    # 11,699,740,672 bytes are free, of which 0.7 hold four rows.
    assert (found.step.micro_batch, found.step.checkpointing) == (4, "Unsloth")
    assert not found.fits


def test_all_parameters_are_counted_once() -> None:
    assert Parameters(1000, 100, 10).total == 1110


def test_a_large_gpu_takes_the_whole_batch_and_keeps_all_activations() -> None:
    found = on(80 * GIB, batch_size=8)
    assert (found.step.micro_batch, found.step.checkpointing) == (8, "Disabled")
    # A token: 16 layers with ten vectors of 2048 and four of 8192 in 16 bit, and six bytes per vocabulary entry.
    assert found.activations == 8 * 800 * (16 * (20 * 2048 + 8 * 8192) + 6 * 128_256)
    assert found.fits


def test_a_small_gpu_recomputes_and_splits_by_what_is_free_beside_model_and_cuda() -> None:
    found = on(16 * GIB, longest=2048, batch_size=64)
    # 15,601,794,909 bytes are free, of which 0.7 hold five rows of 2,048 tokens with 941,568 bytes each.
    assert (found.step.micro_batch, found.step.passes, found.step.checkpointing) == (5, 13, "Unsloth")
    assert found.activations == 5 * 2048 * 941_568
    assert found.together == 1_041_203_363 + 112_721_920 + 9_641_656_320 + CUDA_BYTES
    assert found.fits


def test_what_a_gpu_cannot_hold_is_told() -> None:
    found = on(GIB, batch_size=8)
    assert found.step.micro_batch == 1
    assert not found.fits
    assert found.together > GIB
    by_hand = on(16 * GIB, longest=2048, batch_size=64, micro_batch_size=64)
    assert by_hand.step.micro_batch == 64
    assert not by_hand.fits


def test_what_fits_to_the_byte_fits() -> None:
    found = on(16 * GIB)
    exact = Estimate(found.together, found.frozen, found.trained, found.activations, found.step)
    short = Estimate(found.together - 1, found.frozen, found.trained, found.activations, found.step)
    assert (exact.fits, short.fits) == (True, False)
