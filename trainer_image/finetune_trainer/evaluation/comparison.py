"""Base against tuned: both score and answer the same rows, in one loaded model, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_api.reasons import Reason
from finetune_api.spec import EvaluationSpec, FineTuneJobSpec
from finetune_trainer.data.chat_template import ChatFormat
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, prompt_of, response_of
from finetune_trainer.evaluation.answers import named_option
from finetune_trainer.evaluation.generation import answer
from finetune_trainer.evaluation.likelihood import score
from finetune_trainer.evaluation.questions import NotFiniteError, Question, Score, make_questions
from finetune_trainer.evaluation.report import Outcome, Sample
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError

# Tokens of a padded batch, where each option counts with its prompt, as the cache is repeated for each.
TOKEN_BUDGET = {"cuda": 32768, "cpu": 8192}


@dataclass(frozen=True)
class Contestants:
    """The base model, and what makes it the tuned one in place."""

    base: Any
    attach: Callable[[Any], Any]
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

    def run(self, name: str, model: Any, on_scored: Callable[[int], None]) -> tuple[list[Score], list[str]]:
        say(f"scoring the {name} model on {len(self.questions)} rows")
        chat, pad_id, device = self.contestants.chat, self.contestants.pad_id, self.contestants.device
        budget = TOKEN_BUDGET[device.kind]
        try:
            scores = score(model, self.questions, pad_id, budget, on_scored)
        except NotFiniteError as error:
            raise StageError(Reason.EVALUATION_FAILED, not_finite(name, device)) from error
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
    """Scores all rows and answers the sample prompts. ``on_scored`` gets rows scored so far, and of how many.

    Raises StageError (EvaluationFailed) for likelihoods that are not finite, torch.OutOfMemoryError when one row alone
    is too large for the GPU.
    """
    evaluation = spec.evaluation
    assert evaluation, "a comparison needs spec.evaluation"
    started = time.monotonic()
    task = _make_task(contestants, rows, spec, evaluation)
    counter = _Counter(on_scored, len(rows) * (2 if evaluation.compare_with_base else 1))
    # Base first: the adapter's biases overwrite its own.
    base = task.run("base", contestants.base, counter) if evaluation.compare_with_base else None
    scores, answers = task.run("tuned", contestants.attach(contestants.base), counter)
    samples = _samples(rows, spec, base[1] if base else None, answers)
    return Outcome(rows, base[0] if base else None, scores, samples, time.monotonic() - started)


def _make_task(
    contestants: Contestants, rows: list[ChoiceRow], spec: FineTuneJobSpec, evaluation: EvaluationSpec
) -> _Task:
    dataset = spec.dataset
    questions = make_questions(rows, dataset.prompt_template, dataset.response_template, contestants.chat)
    prompts = [question.prompt for question in questions[: evaluation.sample_prompts]]
    return _Task(contestants, questions, prompts, evaluation.max_new_tokens)


def not_finite(name: str, device: Device) -> str:
    """What to say of NaN and infinite likelihoods of the ``name`` (base or tuned) model, and what to do."""
    if device.dtype == "float16":
        advice = "its numbers overflow there, so set spec.model.dtype BFloat16 and take a GPU that has it"
    elif name == "base":
        advice = "check the weights of spec.model.source"
    else:
        advice = "the training may have diverged, so lower spec.training.learningRate"
    return f"the {name} model's likelihoods are not finite in {device.dtype} on {device.name}: {advice}"


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
