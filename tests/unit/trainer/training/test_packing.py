"""Which examples of a step share a sequence: first fit decreasing, and when packing is worth it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.packing import (
    MASK_BYTES,
    SEQUENCE,
    WORTHWHILE,
    Layout,
    Packing,
    Proof,
    decide_packing,
    first_fit_decreasing,
    padded_tokens,
    passes_of,
    saved_share,
)
from finetune_trainer.training.plan import StepPlan

PLAN = StepPlan(8, 4, "Disabled")
MIXED = np.array([40, 300, 120, 80, 500, 60, 90, 200] * 8)
ALIKE = np.array([100, 99, 98, 100] * 16)
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def fewest(lengths: list[int], capacity: int) -> int:
    """The fewest sequences that hold all rows, by trying every way."""

    def fits(rest: list[int], room: list[int]) -> bool:
        if not rest:
            return True
        first, *others = rest
        for place, left in enumerate(room):
            new = left >= first and left not in room[:place]
            if new and fits(others, [*room[:place], left - first, *room[place + 1 :]]):
                return True
        return False

    descending = sorted(lengths, reverse=True)
    return next(count for count in range(1, len(lengths) + 1) if fits(descending, [capacity] * count))


@given(lengths, st.integers(0, 100))
def test_every_row_lies_in_one_sequence_and_none_holds_more_than_its_capacity(rows: list[int], more: int) -> None:
    capacity = max(rows) + more
    sequences = first_fit_decreasing(rows, capacity)
    assert sorted(place for sequence in sequences for place in sequence) == list(range(len(rows)))
    assert all(sum(rows[place] for place in sequence) <= capacity for sequence in sequences)
    # First fit: what opens a sequence fits none that is open.
    for number, sequence in enumerate(sequences):
        opener = rows[sequence[0]]
        assert all(
            sum(rows[place] for place in earlier if rows[place] >= opener) + opener > capacity
            for earlier in sequences[:number]
        )


@given(st.lists(st.integers(1, 20), min_size=1, max_size=9), st.integers(0, 20))
@example([3, 3, 3, 3, 4, 4], 6)  # takes three sequences where two would do
def test_no_more_sequences_are_taken_than_eleven_ninths_of_the_fewest_and_one(rows: list[int], more: int) -> None:
    capacity = max(rows) + more
    assert len(first_fit_decreasing(rows, capacity)) <= 11 / 9 * fewest(rows, capacity) + 1


@given(lengths, st.integers(1, 8), st.sampled_from(["Rows", "Flat"]))
def test_the_passes_of_a_step_hold_all_its_rows_in_fewer_tokens_and_none_holds_more_than_was_planned_for(
    rows: list[int], at_a_time: int, layout: Layout
) -> None:
    passes = passes_of(rows, at_a_time, layout)
    if not passes:
        return
    assert sorted(place for one in passes for sequence in one for place in sequence) == list(range(len(rows)))
    widths = [max(sum(rows[place] for place in sequence) for sequence in one) for one in passes]
    computed = [len(one) * width for one, width in zip(passes, widths, strict=True)]
    assert max(computed) <= at_a_time * max(rows)
    assert sum(computed) < padded_tokens(rows, at_a_time)
    if layout == "Flat":
        assert sum(computed) == sum(rows)
        assert all(len(one) == 1 for one in passes)


@pytest.mark.parametrize("layout", ["Rows", "Flat"])
@pytest.mark.parametrize("rows", [[7], [9, 9, 9]])
def test_a_step_without_padding_is_left_as_it_is(rows: list[int], layout: Layout) -> None:
    assert passes_of(rows, 4, layout) == []
    # One row at a time has no padding either.
    assert passes_of([10, 3, 3, 3], 1, layout) == []


def test_sequences_are_as_long_as_the_memory_of_a_pass_allows_and_comparing_all_tokens_is_worth() -> None:
    assert passes_of([10, 8, 6], 3, "Rows") == [[[0, 1, 2]]]
    assert passes_of([10, 8, 6], 2, "Rows") == [[[0, 1]], [[2]]]
    rows = [600, 500, 400, 300, 200]
    assert [sum(rows[place] for place in one) for one in passes_of(rows, 5, "Rows")[0]] == [SEQUENCE - 24, 1000]
    assert passes_of(rows, 5, "Flat") == [[[0, 1, 2, 3, 4]]]
    assert passes_of([3 * SEQUENCE, 100, 100], 3, "Rows") == [[[0], [1, 2]]]


def test_a_mask_over_pairs_of_tokens_stays_within_its_bound() -> None:
    long = int(MASK_BYTES**0.5)
    rows = [long // 2, *([long // 4] * 12)]
    passes = passes_of(rows, 8, "Rows")
    widest = max(sum(rows[place] for place in sequence) for one in passes for sequence in one)
    assert max(len(one) for one in passes) * widest**2 <= MASK_BYTES
    assert passes_of([long + 1, 10, 10], 8, "Rows") == []
    assert passes_of([long + 1, 10, 10], 8, "Flat") != []  # has no such mask


def test_the_saved_share_is_that_of_steps_counted_by_hand() -> None:
    assert padded_tokens([10, 5, 5, 2], 2) == 20 + 10
    assert saved_share(np.array([10, 10]), 2, 2) == 0.0
    assert saved_share(np.array([10, 5, 5]), 3, 3) == pytest.approx(1 - 20 / 30)
    # One at a time there is no padding to save.
    assert saved_share(np.array([10, 5, 5]), 3, 1) == pytest.approx(0.0)
    assert saved_share(np.array([], dtype=np.int64), 8, 4) == 0.0
    assert 0.2 < saved_share(MIXED, 8, 8) < 0.8


def proven() -> Proof:
    return Proof("Rows")


def unasked() -> Proof:
    pytest.fail("the model is not asked")


def mixing() -> Proof:
    return Proof(None, "mamba with eager attention mixes examples")


def test_packing_that_is_disabled_or_saves_too_little_asks_no_model() -> None:
    assert decide_packing("Disabled", MIXED, PLAN, unasked) == Packing(None, "Disabled")
    share = saved_share(ALIKE, PLAN.batch, PLAN.micro_batch)
    assert share < WORTHWHILE
    decided = decide_packing("Auto", ALIKE, PLAN, unasked)
    assert decided.layout is None
    assert decided.status == f"Disabled: it would save {share:.0%} of the tokens computed, less than 10%"


def test_auto_packs_where_it_saves_and_the_model_keeps_examples_apart() -> None:
    assert decide_packing("Auto", MIXED, PLAN, proven) == Packing("Rows", "Enabled")
    decided = decide_packing("Auto", MIXED, PLAN, mixing)
    assert decided == Packing(None, "Disabled: mamba with eager attention mixes examples")


def test_enabled_packs_whatever_it_saves_and_refuses_a_model_that_mixes_examples() -> None:
    assert decide_packing("Enabled", ALIKE, PLAN, proven) == Packing("Rows", "Enabled")
    with pytest.raises(StageError, match=r"spec\.dataset\.packing Enabled: mamba with eager attention mixes") as caught:
        decide_packing("Enabled", MIXED, PLAN, mixing)
    assert caught.value.reason is Reason.INVALID_SPEC


def test_a_kernel_that_takes_examples_one_by_one_is_used_only_when_asked_for() -> None:
    decided = decide_packing("Auto", MIXED, PLAN, lambda: Proof("Flat"))
    assert decided.layout is None
    assert "one by one" in decided.status
    assert decide_packing("Enabled", MIXED, PLAN, lambda: Proof("Flat")) == Packing("Flat", "Enabled")


def test_a_reason_fits_its_field_however_long_a_librarys_words_are() -> None:
    decided = decide_packing("Auto", MIXED, PLAN, lambda: Proof(None, "x" * 5000))
    assert len(decided.status) <= 256
