"""Base against tuned: both score and answer the same rows, in one loaded model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_api.spec import EvaluationSpec, FineTuneJobSpec
from finetune_trainer.answers import named_option
from finetune_trainer.chat import ChatFormat
from finetune_trainer.console import say
from finetune_trainer.device import Device
from finetune_trainer.generation import answer
from finetune_trainer.report import Outcome, Sample
from finetune_trainer.rows import ChoiceRow, prompt_of, response_of
from finetune_trainer.scoring import Score, make_questions, score

# Tokens of a padded batch of prompts. Each prompt's cache is then repeated for its options.
TOKEN_BUDGET = {"cuda": 8192, "cpu": 2048}


@dataclass(frozen=True)
class Contestants:
    """A PEFT model, which is the base model while its adapter is off."""

    model: Any
    chat: ChatFormat
    device: Device

    @property
    def pad_id(self) -> int:
        """A token for padding. The attention mask hides it, so which one doesn't matter."""
        tokenizer = self.chat.tokenizer
        return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    @property
    def token_budget(self) -> int:
        return TOKEN_BUDGET[self.device.kind]


def compare(
    contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, on_scored: Callable[[int, int], None]
) -> Outcome:
    """Scores all rows and answers the sample prompts. ``on_scored`` gets rows scored so far, and of how many."""
    evaluation = spec.evaluation
    assert evaluation, "a comparison needs spec.evaluation"
    started = time.monotonic()
    tracker = _Tracker(on_scored, len(rows) * (2 if evaluation.compare_with_base else 1))
    base: list[Score] | None = None
    base_answers: list[str] | None = None
    if evaluation.compare_with_base:
        say(f"scoring the base model on {len(rows)} rows")
        with contestants.model.disable_adapter():
            base = _score(contestants, rows, spec, tracker)
            base_answers = _answers(contestants, rows, spec, evaluation)
    say(f"scoring the tuned model on {len(rows)} rows")
    tuned = _score(contestants, rows, spec, tracker)
    tuned_answers = _answers(contestants, rows, spec, evaluation)
    samples = _samples(rows, spec, base_answers, tuned_answers)
    return Outcome(rows, base, tuned, samples, time.monotonic() - started)


@dataclass
class _Tracker:
    report: Callable[[int, int], None]
    total: int
    done: int = 0

    def advance(self, count: int) -> None:
        self.done += count
        self.report(self.done, self.total)


def _score(contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, tracker: _Tracker) -> list[Score]:
    dataset = spec.dataset
    questions = make_questions(rows, dataset.prompt_template, dataset.response_template, contestants.chat)
    return score(contestants.model, questions, contestants.pad_id, contestants.token_budget, tracker.advance)


def _answers(
    contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, evaluation: EvaluationSpec
) -> list[str]:
    chosen = rows[: evaluation.sample_prompts]
    if not chosen:
        return []
    prompts = contestants.chat.prompt_ids([prompt_of(row, spec.dataset.prompt_template) for row in chosen])
    return answer(
        contestants.model,
        prompts,
        contestants.chat,
        contestants.pad_id,
        evaluation.max_new_tokens,
        contestants.token_budget,
    )


def _samples(
    rows: list[ChoiceRow], spec: FineTuneJobSpec, base_answers: list[str] | None, tuned_answers: list[str]
) -> list[Sample]:
    template = spec.dataset.response_template
    return [
        Sample(
            prompt=prompt_of(row, spec.dataset.prompt_template),
            expected=response_of(row, template),
            base=base_answers[index] if base_answers else None,
            tuned=tuned,
            base_option=named_option(base_answers[index], row, template) if base_answers else None,
            tuned_option=named_option(tuned, row, template),
        )
        for index, (row, tuned) in enumerate(zip(rows, tuned_answers, strict=False))
    ]
