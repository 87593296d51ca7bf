"""Which rows a step takes, and at which learning rate: by seed and step alone, as the libraries would."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import TokenRow
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.schedule import LearningRates


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    load_engine()  # before anything imports transformers


def batches_of(rows: int, size: int, seed: int = 7) -> Any:
    from finetune_trainer.training.batches import Batches

    return Batches(
        TokenStore.of([TokenRow([5, place + 10], [-100, place + 10]) for place in range(rows)]), size, seed, 0
    )


def test_each_epoch_takes_every_row_once_in_an_order_of_its_own() -> None:
    batches = batches_of(rows=10, size=4)
    epochs = [[place for step in range(3 * epoch, 3 * epoch + 3) for place in batches.places(step)] for epoch in (0, 1)]
    assert all(Counter(epoch) == Counter(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [len(batches.places(step)) for step in range(6)] == [4, 4, 2, 4, 4, 2]
    assert [batches.examples(steps) for steps in range(7)] == [0, 4, 8, 10, 14, 18, 20]
    assert batches.epochs(3) == 1.0


def test_a_step_has_its_rows_wherever_one_begins() -> None:
    whole, late = batches_of(rows=10, size=4), batches_of(rows=10, size=4)
    taken = [whole.places(step) for step in range(9)]
    assert late.places(7) == taken[7]
    assert late.places(2) == taken[2]
    assert batches_of(rows=10, size=4, seed=8).places(0) != taken[0]


def test_padding_is_on_the_right_and_an_end_that_doubles_as_padding_stays_in_the_loss() -> None:
    from finetune_trainer.training.batches import padded

    batch = padded([TokenRow([5, 6, 2], [-100, 6, 2]), TokenRow([5], [5])], pad_id=2)
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[5, 6, 2], [5, 2, 2]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[-100, 6, 2], [5, -100, -100]],
    }


@pytest.mark.parametrize("warmup", [0, 1, 5, 20])
@pytest.mark.parametrize(
    ("scheduler", "name"), [("Linear", "linear"), ("Cosine", "cosine"), ("Constant", "constant_with_warmup")]
)
def test_learning_rates_are_those_of_transformers(scheduler: Any, name: str, warmup: int) -> None:
    import torch
    from transformers import get_scheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2e-4)
    theirs, taken = get_scheduler(name, optimizer, warmup, 40), []
    for _ in range(40):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = LearningRates(scheduler, 2e-4, warmup, 40)
    assert [ours.at(step) for step in range(40)] == pytest.approx(taken, rel=1e-12)
