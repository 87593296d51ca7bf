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
from finetune_trainer.questions import Question, Score, make_questions
from finetune_trainer.report import Outcome, Sample
from finetune_trainer.rows import ChoiceRow, prompt_of, response_of
from finetune_trainer.scoring import score

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


@dataclass(frozen=True)
class _Task:
    """What both models do: questions to score and prompts to answer, as token ids."""

    contestants: Contestants
    questions: list[Question]
    prompts: list[list[int]]
    max_new_tokens: int

    def run(self, on_scored: Callable[[int], None]) -> tuple[list[Score], list[str]]:
        model, chat, pad_id = self.contestants.model, self.contestants.chat, self.contestants.pad_id
        budget = TOKEN_BUDGET[self.contestants.device.kind]
        scores = score(model, self.questions, pad_id, budget, on_scored)
        return scores, answer(model, self.prompts, chat, pad_id, self.max_new_tokens, budget)


@dataclass
class _Counter:
    report: Callable[[int, int], None]
    total: int
    done: int = 0

    def __call__(self, count: int) -> None:
        self.done += count
        self.report(self.done, self.total)


def compare(
    contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, on_scored: Callable[[int, int], None]
) -> Outcome:
    """Scores all rows and answers the sample prompts. ``on_scored`` gets rows scored so far, and of how many."""
    evaluation = spec.evaluation
    assert evaluation, "a comparison needs spec.evaluation"
    started = time.monotonic()
    task = _make_task(contestants, rows, spec, evaluation)
    counter = _Counter(on_scored, len(rows) * (2 if evaluation.compare_with_base else 1))
    base: tuple[list[Score], list[str]] | None = None
    if evaluation.compare_with_base:
        say(f"scoring the base model on {len(rows)} rows")
        with contestants.model.disable_adapter():
            base = task.run(counter)
    say(f"scoring the tuned model on {len(rows)} rows")
    scores, answers = task.run(counter)
    samples = _samples(rows, spec, base[1] if base else None, answers)
    return Outcome(rows, base[0] if base else None, scores, samples, time.monotonic() - started)


def _make_task(
    contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, evaluation: EvaluationSpec
) -> _Task:
    dataset = spec.dataset
    questions = make_questions(rows, dataset.prompt_template, dataset.response_template, contestants.chat)
    prompts = [question.prompt for question in questions[: evaluation.sample_prompts]]
    return _Task(contestants, questions, prompts, evaluation.max_new_tokens)


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
