"""Runs work in batches that fit: of a token budget, and smaller ones when GPU memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from finetune_trainer.evaluation.questions import Size, first_batch, longest_first
from finetune_trainer.stage.console import say

Result = TypeVar("Result")


def in_batches(run: Callable[[list[int]], list[Result]], sizes: list[Size], token_budget: int) -> list[Result]:
    """What ``run`` makes of each index of ``sizes``, in order. It gets the indices of a batch at a time.

    A batch that exceeds the GPU's memory is halved, and with it the budget of those that follow. Raises
    torch.OutOfMemoryError when one question alone exceeds it.
    """
    results: dict[int, Result] = {}
    order = longest_first(sizes)
    while order:
        batch, tokens = first_batch(order, sizes, token_budget)
        try:
            found = run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            token_budget = tokens // 2
            say(f"GPU memory ran out with {len(batch)} rows at once: going on with half as many")
            continue
        results |= dict(zip(batch, found, strict=True))
        order = order[len(batch) :]
    return [results[index] for index in range(len(sizes))]
