"""Base against tuned: both score and answer the same rows, in one loaded model, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from finetune_api.evaluation import EvaluationSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example
from finetune_trainer.data.own_prompts import prompts_ids
from finetune_trainer.data.tokenize import LossOn
from finetune_trainer.evaluation.answers import read_answer
from finetune_trainer.evaluation.generation import answer
from finetune_trainer.evaluation.latency import measure_latency
from finetune_trainer.evaluation.metrics import (
    choosers_in_other_order,
    groups_of,
    metrics_of,
    retention_metrics,
    scored,
    want_answers,
)
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.other_order import questions_in_other_order
from finetune_trainer.evaluation.outcome import Generated, Latency, Outcome, Prompted, Side
from finetune_trainer.evaluation.questions import Question, answerable, make_questions
from finetune_trainer.evaluation.scoring import NotFiniteError, Scorer
from finetune_trainer.evaluation.slices import slices_of
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError

# Tokens of a padded batch, where each continuation counts with its prompt, as the cache is repeated for each.
TOKEN_BUDGET = {"cuda": 32768, "cpu": 8192}

# What is asked of the held-out rows only, and not of retention rows, slices, and rows in another order.
_OF_THE_ROWS_ALONE: dict[str, Any] = {"sample_prompts": 0, "latency": None, "judge": None}


@dataclass(frozen=True)
class Contestants:
    """The base model, and what makes it the tuned one in place."""

    base: CausalLM
    attach: Callable[[CausalLM], CausalLM]
    chat: ChatFormat
    device: Device
    context: int | None  # tokens that the model has positions for
    # What makes of the tuned model, which is lost by it, one with the adapter in its weights; None: it has no adapter.
    merge: Callable[[CausalLM, Device], CausalLM] | None = None

    @property
    def pad_id(self) -> int:
        """A token for padding. The attention mask hides it, so which one doesn't matter."""
        tokenizer = self.chat.tokenizer
        found = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return self.chat.stop_ids[0] if found is None else found


@dataclass(frozen=True)
class _Task:
    """What both models do: questions to score, and some of their prompts to answer."""

    contestants: Contestants
    rows: int  # that the questions are of
    questions: Sequence[Question]
    metrics: Sequence[Metric[Any]]
    evaluation: EvaluationSpec
    note: str = ""  # what is special about its rows, for the log

    def run(self, name: str, model: CausalLM, on_scored: Callable[[int], None]) -> Side:
        say(f"scoring the {name} model on {self.rows} rows{self._parts}{self.note}")
        chat, pad_id, device = self.contestants.chat, self.contestants.pad_id, self.contestants.device
        budget = TOKEN_BUDGET[device.kind]
        try:
            scores = Scorer(pad_id, budget, self._margins).score(model, self.questions, on_scored)
        except NotFiniteError as error:
            raise StageError(Reason.EVALUATION_FAILED, *not_finite(name, device)) from error
        asked = [self.questions[index] for index in answerable(self.questions)[: self._answers]]
        prompts, length = [question.prompt for question in asked], self.evaluation.max_new_tokens
        if self._all_answer:
            say(f"{name}: answering {len(asked)} rows in words")
        answers = answer(model, prompts, chat, pad_id, length, budget, self.contestants.context)
        return Side(scores, [self._read(question, one) for question, one in zip(asked, answers, strict=True)])

    def latency(self, model: CausalLM) -> Latency:
        """How fast a model answers the first of the prompts."""
        assert self.evaluation.latency
        asked = answerable(self.questions)[: self.evaluation.latency.prompts]
        prompts, tokens = [self.questions[index].prompt for index in asked], self.evaluation.latency.new_tokens
        return measure_latency(model, prompts, self.contestants.pad_id, tokens, time.perf_counter)

    @property
    def measures_latency(self) -> bool:
        """Whether the spec asks for it, and there is a prompt to answer."""
        return self.evaluation.latency is not None and bool(answerable(self.questions))

    @property
    def _answers(self) -> int:
        return self.rows if self._all_answer else max(self.evaluation.sample_prompts, self._judged)

    @property
    def _judged(self) -> int:
        return self.evaluation.judge.max_examples if self.evaluation.judge else 0

    @property
    def _all_answer(self) -> bool:
        return want_answers(self.metrics) or bool(self.evaluation.checks)

    def _read(self, question: Question, answer: Generated) -> Generated:
        if question.choices is None:
            return answer
        template = self.evaluation.dataset.response_template or ""
        return replace(answer, reading=read_answer(answer.text, question.choices, template, answer.cut))

    @property
    def _parts(self) -> str:
        return "" if len(self.questions) == self.rows else f", in {len(self.questions)} parts"

    def _margins(self, question: Question, likelihoods: list[list[float]]) -> list[list[float]]:
        """A list for each metric, in one order for all questions; empty where a metric has nothing to decide."""
        return [
            metric.margin(question, question.group_of(metric.needs, likelihoods))
            if metric.why_not(question) is None
            else []
            for metric in scored(self.metrics)
        ]


@dataclass(frozen=True)
class _OwnPrompts:
    """A user's own prompts, which both models answer."""

    contestants: Contestants
    evaluation: EvaluationSpec
    ids: list[list[int]]

    @classmethod
    def of(cls, contestants: Contestants, evaluation: EvaluationSpec) -> _OwnPrompts:
        """Those of a spec. Raises StageError (InvalidSpec) for one that can't be asked."""
        return cls(
            contestants, evaluation, prompts_ids(evaluation.prompts or (), contestants.chat, contestants.context)
        )

    def ask(self, name: str, model: CausalLM) -> list[Generated]:
        """What a model answers, in the order of the prompts."""
        if self.ids:
            say(f"{name}: answering {len(self.ids)} prompts of spec.evaluation.prompts")
        one, length = self.contestants, self.evaluation.max_new_tokens
        return answer(model, self.ids, one.chat, one.pad_id, length, TOKEN_BUDGET[one.device.kind], one.context)

    def prompted(self, answers: Mapping[str, Sequence[Generated]]) -> list[Prompted]:
        """Each prompt with its answers, which are given by model."""
        return [
            Prompted(
                prompt.name,
                prompt.text,
                prompt.chat_template,
                len(self.ids[place]),
                {name: found[place] for name, found in answers.items()},
            )
            for place, prompt in enumerate(self.evaluation.prompts or ())
        ]


@dataclass
class _Counter:
    """Counts questions of all models, and reports them as rows: the longest come first, whichever row they are of."""

    report: Callable[[int, int], None]
    questions: int
    rows: int
    done: int = 0

    def __call__(self, count: int) -> None:
        self.done += count
        self.report(self.done * self.rows // self.questions, self.rows)


def compare(
    contestants: Contestants,
    examples: Sequence[Example],
    evaluation: EvaluationSpec,
    on_scored: Callable[[int, int], None],
    window: int | None = None,
    loss_on: LossOn = "Responses",
    retention: Sequence[Example] = (),
    slices: Mapping[str, Sequence[Example]] = MappingProxyType({}),
) -> Outcome:
    """Scores all rows and answers the sample prompts. ``on_scored`` gets rows scored so far, and of how many.

    ``retention`` are rows of a general dataset, which are scored beside them, and so are ``slices``: those of the spec
    that have rows of their own, by name, in its order.

    Documents are scored in windows of ``window`` tokens, conversations at the responses that ``loss_on`` names.

    Raises StageError (EvaluationFailed) for likelihoods that are not finite, torch.OutOfMemoryError when one row alone
    is too large for the GPU.
    """
    started = time.monotonic()

    def task(rows: Sequence[Example], wanted: EvaluationSpec) -> _Task:
        metrics = metrics_of(wanted.metrics)
        questions = make_questions(rows, contestants.chat, groups_of(metrics), window, loss_on)
        return _Task(contestants, len(rows), questions, metrics, wanted)

    tasks, rows_of = {"rows": task(examples, evaluation)}, {"rows": examples}
    for part in evaluation.slices or ():
        if part.dataset:
            key, rows_of[key] = _slice(part.name), slices[part.name]
            wanted = {"dataset": part.dataset, **_OF_THE_ROWS_ALONE}
            tasks[key] = task(rows_of[key], evaluation.model_copy(update=wanted))
    for key in list(tasks):
        if other := _reordered(tasks[key], rows_of[key]):
            tasks[_moved(key)], rows_of[_moved(key)] = other, rows_of[key]
    if retention:
        wanted = {"metrics": retention_metrics(retention), **_OF_THE_ROWS_ALONE, "checks": None}
        tasks["retention"] = task(retention, evaluation.model_copy(update=wanted))
        rows_of["retention"] = retention
    own = _OwnPrompts.of(contestants, evaluation)
    answers: dict[str, list[Generated]] = {}
    models = 2 if evaluation.compare_with_base else 1
    questions, rows = sum(len(one.questions) for one in tasks.values()), sum(one.rows for one in tasks.values())
    counter = _Counter(on_scored, questions * models, rows * models)
    # Base first: the adapter's biases overwrite its own.
    main, latency = tasks["rows"], dict[str, Latency]()
    base: dict[str, Side] = {}
    if evaluation.compare_with_base:
        base = {name: one.run("base", contestants.base, counter) for name, one in tasks.items()}
        answers["base"] = own.ask("base", contestants.base)
        if main.measures_latency:
            latency["Base"] = main.latency(contestants.base)
    model = contestants.attach(contestants.base)
    tuned = {name: one.run("tuned", model, counter) for name, one in tasks.items()}
    answers["tuned"] = own.ask("tuned", model)
    if main.measures_latency:
        latency["Tuned"] = main.latency(model)
        if contestants.merge:
            say("merging the adapter, to see how fast the model answers without it beside the weights")
            latency["Merged"] = main.latency(contestants.merge(model, contestants.device))
    seconds = time.monotonic() - started

    def outcome(key: str) -> Outcome:
        one, moved = tasks[key], _moved(key)
        found = Outcome(rows_of[key], one.questions, base.get(key), tuned[key], seconds, one.evaluation.sample_prompts)
        return replace(found, reordered=outcome(moved)) if moved in tasks else found

    whole = outcome("rows")
    beside = {part.name: outcome(_slice(part.name)) for part in evaluation.slices or () if part.dataset}
    return replace(
        whole,
        latency=latency,
        retention=outcome("retention") if retention else None,
        slices=slices_of(whole, evaluation.slices or (), beside),
        prompts=own.prompted(answers),
    )


def _slice(name: str) -> str:
    return f"slice {name}"


def _moved(key: str) -> str:
    return f"{key}, reordered"


def _reordered(task: _Task, examples: Sequence[Example]) -> _Task | None:
    """The same rows with their options in another order, where a metric looks at that."""
    metrics: list[Metric[Any]] = [*choosers_in_other_order(task.metrics)]
    if not metrics:
        return None
    chat, context, wanted = task.contestants.chat, task.contestants.context, task.evaluation
    questions = questions_in_other_order(examples, wanted.dataset, chat, groups_of(metrics), context)
    unanswered = wanted.model_copy(update={**_OF_THE_ROWS_ALONE, "checks": None})
    note = ", their options in another order"
    return (
        replace(task, rows=len(questions), questions=questions, metrics=metrics, evaluation=unanswered, note=note)
        if questions
        else None
    )


def not_finite(name: str, device: Device) -> tuple[str, str]:
    """What to say of NaN and infinite likelihoods of the ``name`` (base or tuned) model, and what to do."""
    if device.dtype == "float16":
        advice = "its numbers overflow there, so set spec.model.dtype BFloat16 and take a GPU that has it"
    elif name == "base":
        advice = "check the weights of spec.model.source"
    else:
        advice = "the training may have diverged, so lower spec.training.learningRate; the adapter is kept"
    return f"the {name} model's likelihoods are not finite in {device.dtype} on {device.name}", advice
