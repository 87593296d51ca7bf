"""Which examples of a step share a sequence, and whether that is worth it. Pure.

A step keeps its examples: packing only lays them out otherwise, so that less of what is computed is padding. That each
example sees itself alone is proven by :mod:`finetune_trainer.training.packed_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.plan import StepPlan, even_split

# How examples of a pass lie in its tensors. Rows: [sequences, length], told apart by a mask that the model makes of
# positions. Flat: end to end, [1, tokens], for attention that takes several examples in one row only, without a mask.
Layout = Literal["Rows", "Flat"]
Mode = Literal["Auto", "Enabled", "Disabled"]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
ENABLED = "Enabled"
# A smaller saving is eaten up by the mask that tells the examples apart: tests/bench/README.md.
WORTHWHILE = 0.1
# Tokens of a sequence in Rows, unless a row has more. Each token is compared with all of them, its own example's or
# not: longer sequences would leave less padding, and lose more by that.
SEQUENCE = 1024
# The mask of a pass in Rows takes a byte for each pair of tokens of a sequence.
MASK_BYTES = 1 << 28
_SAMPLED_STEPS = 64
_STATUS_LENGTH = 256


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Places of rows that share a sequence of at most ``capacity`` tokens: longest first, each where it first fits.

    Takes at most 11/9 of the fewest sequences that could hold them, and one more (Johnson 1973). No row may be longer
    than ``capacity``.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = lengths[place]
        chosen = next((number for number, left in enumerate(room) if left >= length), None)
        if chosen is None:
            chosen = len(bins)
            bins.append([])
            room.append(capacity)
        bins[chosen].append(place)
        room[chosen] -= length
    return bins


def passes_of(lengths: Sequence[int], at_a_time: int, layout: Layout) -> list[list[list[int]]]:
    """The passes of a step as sequences of places of rows; none where packing saves nothing, or its mask is too big.

    A pass holds no more tokens than ``at_a_time`` rows of the longest row's length, which is what fits the memory.
    """
    longest = max(lengths)
    budget = at_a_time * longest
    capacity = budget if layout == "Flat" else max(longest, min(budget, SEQUENCE))
    most = 1 if layout == "Flat" else min(budget // capacity, MASK_BYTES // capacity**2)
    if not most:
        return []
    sequences = first_fit_decreasing(lengths, capacity)
    size = even_split(len(sequences), most)
    passes = [sequences[start : start + size] for start in range(0, len(sequences), size)]
    return passes if _tokens(passes, lengths) < padded_tokens(lengths, at_a_time) else []


def padded_tokens(lengths: Sequence[int], at_a_time: int) -> int:
    """Tokens computed of a step that isn't packed, padding with them."""
    parts = [lengths[start : start + at_a_time] for start in range(0, len(lengths), at_a_time)]
    return sum(len(part) * max(part) for part in parts)


def saved_share(lengths: Numbers, batch: int, at_a_time: int) -> float:
    """Share of the tokens computed, padding with them, that packing in Rows saves; of steps drawn by a fixed seed."""
    if len(lengths) == 0:
        return 0.0
    draw, padded, packed = np.random.default_rng(0), 0, 0
    for _ in range(_SAMPLED_STEPS):
        step = draw.choice(lengths, min(batch, len(lengths)), replace=False).tolist()
        passes = passes_of(step, at_a_time, "Rows")
        padded += padded_tokens(step, at_a_time)
        packed += _tokens(passes, step) if passes else padded_tokens(step, at_a_time)
    return 1 - packed / padded


def _tokens(passes: list[list[list[int]]], lengths: Sequence[int]) -> int:
    return sum(len(one) * max(sum(lengths[place] for place in sequence) for sequence in one) for one in passes)


@dataclass(frozen=True)
class Proof:
    """Whether examples that share a sequence see themselves alone: in which layout, or what speaks against it."""

    layout: Layout | None
    problem: str = ""


@dataclass(frozen=True)
class Packing:
    """What was decided. Without a layout the run isn't packed."""

    layout: Layout | None
    status: str  # for TrainingStatus.packing


def decide_packing(mode: Mode, lengths: Numbers, plan: StepPlan, prove: Callable[[], Proof]) -> Packing:
    """Whether a run packs. ``prove`` runs the model, and only where all else speaks for packing.

    Raises StageError (InvalidSpec) when packing is Enabled and the model mixes examples.
    """
    if mode == "Disabled":
        return Packing(None, "Disabled")
    if mode == "Auto":
        saved = saved_share(lengths, plan.batch, plan.micro_batch)
        if saved < WORTHWHILE:
            return _disabled(f"it would save {saved:.0%} of the tokens computed, less than {WORTHWHILE:.0%}")
    proof = prove()
    if proof.layout is None and mode == "Enabled":
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.dataset.packing Enabled: {proof.problem}",
            "set packing Auto or Disabled, and apply under a new name",
        )
    if proof.layout is None:
        return _disabled(proof.problem)
    if proof.layout == "Flat" and mode == "Auto":
        # One call of the kernel for each example and layer: more launches, whatever is saved.
        return _disabled("the model's attention takes packed examples one by one; Enabled packs all the same")
    return Packing(proof.layout, ENABLED)


def _disabled(why: str) -> Packing:
    return Packing(None, cut(f"Disabled: {why}", _STATUS_LENGTH))
