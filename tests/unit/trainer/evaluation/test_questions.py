"""How questions share a batch."""

from __future__ import annotations

from finetune_trainer.evaluation.questions import Size, first_batch, longest_first


def test_a_batch_counts_every_continuation_with_its_prompt_and_padding() -> None:
    sizes = [Size(30, 10, 2), Size(10, 10, 4), Size(10, 30, 2)]
    order = longest_first(sizes)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10)) == ([0, 1], 320)
    assert first_batch(order, sizes, token_budget=2 * 4 * (30 + 10) - 1) == ([0], 80)
    assert first_batch(order, sizes, token_budget=3 * 4 * (30 + 30)) == ([0, 1, 2], 720)


def test_a_question_above_the_budget_stands_alone() -> None:
    assert first_batch([1, 0], [Size(5, 5), Size(50, 50)], token_budget=1) == ([1], 100)
