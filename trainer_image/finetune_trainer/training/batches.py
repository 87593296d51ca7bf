"""Which rows a step takes, and their padded tensors. Order and place follow from seed and step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from finetune_api.reasons import Reason
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import IGNORED, TokenRow
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.micro_batches import Batch, label_tokens


@dataclass
class Batches:
    """The batches of a run: each epoch takes every row once, in an order of its own; its last batch may be smaller."""

    rows: TokenStore
    size: int
    seed: int
    pad_id: int
    _epoch: int = -1
    _order: list[int] = field(default_factory=list)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.rows) // self.size)

    def places(self, step: int) -> list[int]:
        """Places of the rows that the step after ``step`` others takes."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(len(self.rows), self.seed, epoch)
        return self._order[number * self.size : (number + 1) * self.size]

    def batch(self, step: int) -> Batch:
        """Tensors [rows, longest] of the step after ``step`` others.

        Raises StageError (InvalidSpec) for rows without any label: libraries call that a loss of zero.
        """
        rows = [self.rows[place] for place in self.places(step)]
        batch = padded(rows, self.pad_id)
        if not label_tokens(batch):
            raise StageError(
                Reason.INVALID_SPEC,
                f"the {len(rows)} rows of a step have no token that the loss sees",
                "check spec.training.lossOn and the rows' train flags, and apply under a new name",
            )
        return batch

    def epochs(self, steps: int) -> float:
        """How often the rows were seen after so many steps."""
        return steps / self.per_epoch

    def examples(self, steps: int) -> int:
        """Rows that went through the model in so many steps, repeats counted."""
        whole, rest = divmod(steps, self.per_epoch)
        return whole * len(self.rows) + min(rest * self.size, len(self.rows))


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """A permutation of the places of ``rows`` rows; of the first epoch the one that transformers would sample."""
    draw = torch.Generator().manual_seed(seed + epoch)
    order: list[int] = torch.randperm(rows, generator=draw).tolist()
    return order


def padded(rows: Sequence[TokenRow], pad_id: int) -> Batch:
    """Rows padded on the right, labels by position: an EOS that doubles as pad token stays in the loss."""
    longest = max(len(row.input_ids) for row in rows)
    return {
        "input_ids": _filled([row.input_ids for row in rows], longest, pad_id),
        "attention_mask": _filled([[1] * len(row.input_ids) for row in rows], longest, 0),
        "labels": _filled([row.labels for row in rows], longest, IGNORED),
    }


def _filled(lists: Sequence[Sequence[int]], length: int, filler: int) -> torch.Tensor:
    return torch.tensor([[*values, *[filler] * (length - len(values))] for values in lists])
