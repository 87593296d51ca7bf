"""Base against tuned: both score and answer the same rows, in one loaded model, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune_api.evaluation import EvaluationSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example
from finetune_trainer.data.tokenize import LossOn
from finetune_trainer.evaluation.answers import read_answer
from finetune_trainer.evaluation.generation import answer
from finetune_trainer.evaluation.latency import measure_latency
from finetune_trainer.evaluation.metrics import groups_of, metrics_of, retention_metrics, want_answers
from finetune_trainer.evaluation.metrics.base import LikelihoodMetric, Metric
from finetune_trainer.evaluation.outcome import Generated, Latency, Outcome, Side
from finetune_trainer.evaluation.questions import Question, answerable, make_questions
from finetune_trainer.evaluation.scoring import NotFiniteError, Scorer
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError

# Tokens of a padded batch, where each continuation counts with its prompt, as the cache is repeated for each.
TOKEN_BUDGET = {"cuda": 32768, "cpu": 8192}


@dataclass(frozen=True)
class Contestants:
    """The base model, and what makes it the tuned one in place."""

    base: CausalLM
    attach: Callable[[CausalLM], CausalLM]
    chat: ChatFormat
    device: Device
    context: int | None  # tokens that the model has positions for
    # What makes of the tuned model, which is lost by it, one with the adapter in its weights; None: it has no adapter.
    merge: Callable[[CausalLM], CausalLM] | None = None

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

    def run(self, name: str, model: CausalLM, on_scored: Callable[[int], None]) -> Side:
        say(f"scoring the {name} model on {self.rows} rows{self._parts}")
        chat, pad_id, device = self.contestants.chat, self.contestants.pad_id, self.contestants.device
        budget = TOKEN_BUDGET[device.kind]
        try:
            scores = Scorer(pad_id, budget, self._margins).score(model, self.questions, on_scored)
        except NotFiniteError as error:
            raise StageError(Reason.EVALUATION_FAILED, *not_finite(name, device)) from error
        asked = [self.questions[index] for index in answerable(self.questions)[: self._answers]]
        prompts, length = [question.prompt for question in asked], self.evaluation.max_new_tokens
        if want_answers(self.metrics) or self.evaluation.judge:
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
        judged = self.evaluation.judge.max_examples if self.evaluation.judge else 0
        return self.rows if want_answers(self.metrics) else max(self.evaluation.sample_prompts, judged)

    def _read(self, question: Question, answer: Generated) -> Generated:
        if question.choices is None:
            return answer
        template = self.evaluation.dataset.response_template or ""
        return replace(answer, reading=read_answer(answer.text, question.choices, template, answer.cut))

    @property
    def _parts(self) -> str:
        return "" if len(self.questions) == self.rows else f", in {len(self.questions)} parts"

    def _margins(self, question: Question, likelihoods: list[list[float]]) -> list[list[float]]:
        found = (
            metric.margin(question, question.group_of(metric.needs, likelihoods))
            for metric in self.metrics
            if isinstance(metric, LikelihoodMetric)
            if metric.why_not(question) is None
        )
        return [scores for scores in found if scores]


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
) -> Outcome:
    """Scores all rows and answers the sample prompts. ``on_scored`` gets rows scored so far, and of how many.

    ``retention`` are rows of a general dataset, which are scored beside them.

    Documents are scored in windows of ``window`` tokens, conversations at the responses that ``loss_on`` names.

    Raises StageError (EvaluationFailed) for likelihoods that are not finite, torch.OutOfMemoryError when one row alone
    is too large for the GPU.
    """
    started = time.monotonic()

    def task(rows: Sequence[Example], wanted: EvaluationSpec) -> _Task:
        metrics = metrics_of(wanted.metrics)
        questions = make_questions(rows, contestants.chat, groups_of(metrics), window, loss_on)
        return _Task(contestants, len(rows), questions, metrics, wanted)

    tasks = [task(examples, evaluation)]
    if retention:
        wanted = {"metrics": retention_metrics(retention), "sample_prompts": 0, "latency": None, "judge": None}
        tasks.append(task(retention, evaluation.model_copy(update=wanted)))
    models = 2 if evaluation.compare_with_base else 1
    questions, rows = sum(len(one.questions) for one in tasks), sum(one.rows for one in tasks)
    counter = _Counter(on_scored, questions * models, rows * models)
    # Base first: the adapter's biases overwrite its own.
    latency: dict[str, Latency] = {}
    base = None
    if evaluation.compare_with_base:
        base = [one.run("base", contestants.base, counter) for one in tasks]
        if tasks[0].measures_latency:
            latency["Base"] = tasks[0].latency(contestants.base)
    model = contestants.attach(contestants.base)
    tuned = [one.run("tuned", model, counter) for one in tasks]
    if tasks[0].measures_latency:
        latency["Tuned"] = tasks[0].latency(model)
        if contestants.merge:
            say("merging the adapter, to see how fast the model answers without it beside the weights")
            latency["Merged"] = tasks[0].latency(contestants.merge(model))
    seconds = time.monotonic() - started
    found = [
        Outcome(of, one.questions, base[place] if base else None, tuned[place], seconds, one.evaluation.sample_prompts)
        for place, (one, of) in enumerate(zip(tasks, (examples, retention), strict=False))
    ]
    return replace(found[0], latency=latency, retention=found[1] if retention else None)


def not_finite(name: str, device: Device) -> tuple[str, str]:
    """What to say of NaN and infinite likelihoods of the ``name`` (base or tuned) model, and what to do."""
    if device.dtype == "float16":
        advice = "its numbers overflow there, so set spec.model.dtype BFloat16 and take a GPU that has it"
    elif name == "base":
        advice = "check the weights of spec.model.source"
    else:
        advice = "the training may have diverged, so lower spec.training.learningRate; the adapter is kept"
    return f"the {name} model's likelihoods are not finite in {device.dtype} on {device.name}", advice
