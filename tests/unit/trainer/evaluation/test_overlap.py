"""BLEU and chrF against sacrebleu called plainly, their intervals and their paired test."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import sacrebleu
from sacrebleu.significance import PairedTest

from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.metrics.overlap import OverlapMetric
from finetune_trainer.evaluation.resampling import approximate_randomization, bootstrap_interval
from written_answers import without_options

WORDS = ["the", "heron", "lives", "near", "an", "old", "river", "bank", "wall", ",", "水", "¿dónde?", "it's", '"so"']


def texts(count: int, seed: int, of: list[str] | None = None) -> list[str]:
    """Sentences; with ``of``, those with some words changed."""
    draw = random.Random(seed)
    if of is None:
        return [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) + "." for _ in range(count)]
    return [" ".join(draw.choice(WORDS) if draw.random() < 0.3 else word for word in text.split()) for text in of]


RIGHT = texts(150, 1)
BASE, TUNED = texts(150, 2, RIGHT), texts(150, 3, RIGHT)


def metric_of(name: str) -> OverlapMetric:
    metric = METRICS[name]
    assert isinstance(metric, OverlapMetric)
    return metric


def rows_of(metric: OverlapMetric, answers: list[str]) -> list[Any]:
    outcome = without_options(answers, RIGHT)
    pairs = zip(outcome.questions, outcome.tuned.answers, strict=True)
    return [metric.row(question, answer) for question, answer in pairs]


@pytest.mark.parametrize(("name", "plain"), [("BLEU", sacrebleu.corpus_bleu), ("ChrF", sacrebleu.corpus_chrf)])
def test_the_score_is_that_of_sacrebleu_on_the_same_texts(name: str, plain: Any) -> None:
    metric = metric_of(name)
    for answers in (BASE, TUNED, RIGHT, [""] * len(RIGHT)):
        expected = plain(answers, [RIGHT]).score
        assert float(metric.value(rows_of(metric, answers)).value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["BLEU", "ChrF"])
def test_the_report_tells_sacrebleus_signature(name: str) -> None:
    settings = {"BLEU": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp", "ChrF": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0"}
    assert settings[name] in metric_of(name).definition
    assert f"version:{sacrebleu.__version__}" in metric_of(name).definition


@pytest.mark.parametrize("name", ["BLEU", "ChrF"])
def test_interval_and_paired_test_are_those_of_sacrebleus_own_resampling(name: str) -> None:
    metric = metric_of(name)
    base, tuned = rows_of(metric, BASE), rows_of(metric, TUNED)
    other = getattr(sacrebleu.metrics, name.upper())()
    systems = [("base", BASE), ("tuned", TUNED)]
    _, by_randomization = PairedTest(systems, {name: other}, [RIGHT], test_type="ar", n_ar_confidence=0)()
    theirs = by_randomization[next(key for key in by_randomization if key != "System")][1]
    test = metric.compare(base, tuned)
    assert test.paired is None
    assert test.p_value == pytest.approx(theirs.p_value, abs=2e-4)  # theirs leaves ties out
    value = metric.value(tuned)
    assert value.interval95
    low, high = float(value.interval95.low), float(value.interval95.high)
    # Resamples of their own: the ends of an interval of 1,000 vary by a few percent of its width.
    assert (low + high) / 2 == pytest.approx(theirs.mean, abs=0.1 * float(theirs.ci))
    assert (high - low) / 2 == pytest.approx(theirs.ci, rel=0.1)


def test_models_that_write_the_same_differ_by_chance_alone() -> None:
    metric = metric_of("BLEU")
    base = rows_of(metric, BASE)
    assert metric.compare(base, base).p_value == 1
    one_better = rows_of(metric, [RIGHT[0], *BASE[1:]])
    assert metric.compare(base, one_better).p_value == 1  # swapping that row alone changes nothing but the sign


def test_models_that_write_alike_are_told_apart_no_more_often_than_the_level_says() -> None:
    draw, significant = random.Random(5), 0
    for _ in range(200):
        rows = [[(draw.random() < 0.5) + (draw.random() < 0.5), 1] for _ in range(60)]
        half = [([*one], [(draw.random() < 0.5) + (draw.random() < 0.5), 1]) for one in rows]
        pairs = [pair if draw.random() < 0.5 else pair[::-1] for pair in half]
        first, second = ([pair[place] for pair in pairs] for place in (0, 1))
        significant += approximate_randomization(first, second, lambda sums: sums[0] / sums[1], trials=200) < 0.05
    assert significant <= 20  # of 200 at 5%: 10 expected, and 20 lie three deviations out


def test_a_bootstrap_interval_covers_as_the_normal_approximation_does() -> None:
    rows = [[1, 1]] * 60 + [[0, 1]] * 40
    low, high = bootstrap_interval(rows, lambda sums: sums[0] / sums[1])
    assert (low, high) == pytest.approx((0.6 - 0.096, 0.6 + 0.096), abs=0.012)
    assert (low, high) == bootstrap_interval(rows, lambda sums: sums[0] / sums[1])


def test_the_resampling_of_many_rows_takes_seconds_and_little_memory() -> None:
    import resource

    rows = [[number % 7, 9, 3, 4] for number in range(20_000)]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    bootstrap_interval(rows, lambda sums: sums[0] / sums[1])
    approximate_randomization(rows, rows[::-1], lambda sums: sums[0] / sums[1])
    assert time.process_time() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024  # KiB
