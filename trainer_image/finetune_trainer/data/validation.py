"""Rows whose loss is measured while training goes on: set aside from the training rows, or of another source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from finetune_api.reasons import Reason
from finetune_api.replay import REPLAY
from finetune_trainer.data.load import Rows
from finetune_trainer.data.mixture import sample
from finetune_trainer.data.pipeline import Reading
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.stage.failure import StageError


def count_aside(rows: int, fraction: Fraction) -> int:
    """How many of so many rows are set aside: at least one of two, and never all."""
    return max(0, min(rows - 1, max(1, math.floor(rows * fraction))))


def set_aside(
    store: TokenStore, kept: Mapping[str, int], fraction: Fraction, seed: int
) -> tuple[TokenStore, TokenStore]:
    """The rows to train on, and those that are set aside: a share of all rows but replay's, at least one.

    ``kept`` are the rows of each dataset, in order. All token rows of a row go to one side. Raises StageError
    (DatasetInvalid) when nothing would be left to train on.
    """
    first_of_replay = sum(count for name, count in kept.items() if name != REPLAY)  # replay's rows come last
    rows = np.unique(store.sources)
    rows = rows[rows < first_of_replay]
    if len(rows) < 2:
        raise StageError(
            Reason.DATASET_INVALID,
            f"spec.dataset.validation: of {len(rows)} rows none can be set aside",
            "name more rows, or validation rows of their own",
        )
    chosen = rows[sample(len(rows), count_aside(len(rows), fraction), "validation", seed)]
    aside = np.isin(store.sources, chosen)
    return store.select(np.flatnonzero(~aside)), store.select(np.flatnonzero(aside))


def measured_rows(rows: Rows, reading: Reading) -> TokenStore:
    """Rows of a source of their own as token ids; those that are too long are left out.

    Raises StageError (DatasetInvalid) when none is left.
    """
    made = tokenise(rows.examples, reading.chat, reading.limit, reading.loss_on)
    found = [row for one in made for row in one.rows]
    if not found:
        raise StageError(
            Reason.DATASET_INVALID,
            f"{rows.field}: none of {len(rows.examples)} rows of {rows.name} has at most {reading.limit} tokens and a "
            "response that the loss sees",
            "name other rows",
        )
    return TokenStore.of(found)
