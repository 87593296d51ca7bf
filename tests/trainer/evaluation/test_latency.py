"""How fast models answer: a clock that counts forward passes shows what is timed, and of which models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@dataclass
class Passes:
    """A clock that goes on by the cost of each forward pass: ``per_token`` seconds for each token of it."""

    per_token: float
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.now += self.per_token * kwargs["input_ids"].numel()


@pytest.fixture
def model(tiny_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_the_first_token_costs_the_prompt_and_each_further_one_a_pass_of_its_own(model: Any) -> None:
    from finetune_trainer.evaluation.latency import measure_latency

    clock = Passes(per_token=0.5)
    model.register_forward_pre_hook(clock.count, with_kwargs=True)
    found = measure_latency(model, PROMPTS, 0, 9, clock)
    assert found.first_token_seconds == pytest.approx(1.5)  # of prompts of 3, 2 and 4 tokens
    assert found.tokens_per_second == pytest.approx(2.0)
    assert found.precision == "float32"
    # Each prompt to its first token and to its ninth, and the first one once before.
    assert clock.now == pytest.approx(0.5 * (sum(2 * len(one) + 8 for one in PROMPTS) + len(PROMPTS[0]) + 8))


def test_no_stop_token_ends_an_answer_early(model: Any, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    from finetune_trainer.evaluation.latency import measure_latency

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model.generation_config.eos_token_id = list(range(len(tokenizer)))
    clock = Passes(per_token=1.0)
    model.register_forward_pre_hook(clock.count, with_kwargs=True)
    assert measure_latency(model, [[5]], 0, 5, clock).tokens_per_second == pytest.approx(1.0)
    assert clock.now == 1 + 2 * 5
    assert len(model.generation_config.eos_token_id) == len(tokenizer)  # the model's own is as before


def test_base_adapter_and_merged_model_are_timed_and_told(run: Any, make_config: Any) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate

    work = run.folder.parent.parent  # the claim of rows and runs
    training = {"maxSteps": 40, "loggingSteps": 15, "learningRate": "2e-2"}
    evaluation = {"latency": {"newTokens": 4, "prompts": 2}, "samplePrompts": 0}
    result = evaluate(make_config(work, training=training, evaluation=evaluation), None)
    assert result.evaluation
    latency = {one.name: one for one in result.evaluation.latency}
    assert {name: one.precision for name, one in latency.items()} == {
        "Base": "NF4",
        "Tuned": "NF4",
        "Merged": "float32",
    }
    assert all(float(one.tokens_per_second) > 0 for one in latency.values())
    assert all(float(one.first_token_milliseconds) > 0 for one in latency.values())
    # Each figure of the scores is as without it.
    assert result.evaluation.metrics == run.evaluation.evaluation.metrics
    assert result.evaluation.retention is None
