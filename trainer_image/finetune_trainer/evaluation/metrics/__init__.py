"""The metrics of an evaluation, by their names in ``spec.evaluation.metrics``: one file and one line here for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from finetune_trainer.data.example import Example
from finetune_trainer.evaluation.metrics.accuracy import Accuracy
from finetune_trainer.evaluation.metrics.answer_rates import CutAnswerRate, EmptyAnswerRate, InvalidAnswerRate
from finetune_trainer.evaluation.metrics.base import AnswerMetric, LikelihoodMetric, Metric
from finetune_trainer.evaluation.metrics.calibration import CalibrationError
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.metrics.generated_accuracy import GeneratedAccuracy
from finetune_trainer.evaluation.metrics.harness_accuracy import ByteAccuracy, CharacterAccuracy, SumAccuracy
from finetune_trainer.evaluation.metrics.letter_accuracy import LetterAccuracy
from finetune_trainer.evaluation.metrics.order_consistency import LetterOrderConsistency, OrderConsistency, OrderMetric
from finetune_trainer.evaluation.metrics.overlap import BLEU, ChrF
from finetune_trainer.evaluation.metrics.perplexity import Perplexity
from finetune_trainer.evaluation.questions import Group

# What a metric keeps of a row is its own affair, hence Any.
_ALL: tuple[Metric[Any], ...] = (
    Accuracy(),
    LetterAccuracy(),
    Perplexity(),
    SumAccuracy(),
    CharacterAccuracy(),
    ByteAccuracy(),
    CalibrationError(),
    OrderConsistency(),
    LetterOrderConsistency(),
    GeneratedAccuracy(),
    InvalidAnswerRate(),
    EmptyAnswerRate(),
    CutAnswerRate(),
    BLEU(),
    ChrF(),
)
METRICS: dict[str, Metric[Any]] = {metric.name: metric for metric in _ALL}


def metrics_of(names: Iterable[str]) -> list[Metric[Any]]:
    """The metrics of a spec, in its order."""
    return [METRICS[name] for name in names]


def groups_of(metrics: Iterable[Metric[Any]]) -> set[Group]:
    """What metrics want scored. Responses in any case: where only answers in words are asked for, they cost little."""
    return {Group.RESPONSES, *(metric.needs for metric in scored(metrics))}


def scored(metrics: Iterable[Metric[Any]]) -> list[LikelihoodMetric[Any]]:
    """The metrics that decide something by likelihoods of the rows as they stand: those, and what others build on."""
    own = [metric.chooser if isinstance(metric, OrderMetric) else metric for metric in metrics]
    return list({metric.name: metric for metric in own if isinstance(metric, LikelihoodMetric)}.values())


def choosers_in_other_order(metrics: Iterable[Metric[Any]]) -> list[ChoiceMetric]:
    """The metrics that choose an option also with the options in another order; none: no such pass is needed."""
    return [metric.chooser for metric in metrics if isinstance(metric, OrderMetric)]


def want_answers(metrics: Iterable[Metric[Any]]) -> bool:
    """Whether metrics look at answers in words, so that every row is answered."""
    return any(isinstance(metric, AnswerMetric) for metric in metrics)


def retention_metrics(rows: Sequence[Example]) -> list[str]:
    """What is measured of retention rows: their perplexity, and the accuracy where rows have options."""
    return ["Perplexity", *(["Accuracy"] if any(row.choices for row in rows) else [])]
