"""Gates judged by made-up reports: when each passes, fails or can't be told, and what is said of it."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from finetune_api.gates import GateSpec, is_share
from finetune_trainer.evaluation.gates import JudgedGate, judge
from finetune_trainer.evaluation.metrics import METRICS, retention_metrics
from finetune_trainer.evaluation.metrics.base import Metric
from finetune_trainer.evaluation.statistics import mcnemar_exact
from finetune_trainer.sources.stored_report import StoredReport
from stored_reports import URI, accuracies, chosen, compared, likelihood, report_of

# 500 of 1,000 right by the tuned model, 440 by the base model: 6 points, on 160 discordant rows.
GOOD = accuracies(both=390, better=110, worse=50, neither=450)
FEW = accuracies(both=39, better=11, worse=5, neither=45)


def judged(
    report: StoredReport, other: StoredReport | None = None, metric: str = "Accuracy", **gate: Any
) -> JudgedGate:
    spec = GateSpec.model_validate({"metric": metric, **gate})
    (found,) = judge([spec], report, compared(other) if other else {}, seed=7)
    return found


@pytest.mark.parametrize(
    ("gate", "of_many", "of_few"),
    [
        ({"minimum": "0.5"}, "Passed", "Passed"),
        ({"minimum": "0.51"}, "Inconclusive", "Inconclusive"),
        ({"minimum": "0.55"}, "Failed", "Inconclusive"),
        ({"minimum": "0.65"}, "Failed", "Failed"),
        ({"maximum": "0.5"}, "Passed", "Passed"),
        ({"maximum": "0.45"}, "Failed", "Inconclusive"),
        ({"minimumGain": "0.06"}, "Passed", "Passed"),
        ({"minimumGain": "0.07"}, "Inconclusive", "Inconclusive"),
        ({"minimumGain": "0.1"}, "Failed", "Inconclusive"),
        ({"minimumGain": "0.2"}, "Failed", "Failed"),
        ({"significance": "0.05"}, "Passed", "Inconclusive"),
        ({"minimumGain": "0.06", "significance": "0.05"}, "Passed", "Inconclusive"),
        ({"minimumGain": "0.2", "significance": "0.05"}, "Failed", "Failed"),
        ({"minimum": "0.65", "minimumGain": "0.07"}, "Failed", "Failed"),
    ],
)
def test_a_gate_passes_by_what_was_seen_and_fails_only_where_the_rows_rule_it_out(
    gate: dict[str, str], of_many: str, of_few: str
) -> None:
    assert (judged(GOOD, **gate).verdict, judged(FEW, **gate).verdict) == (of_many, of_few)


def test_a_tuned_model_that_is_significantly_worse_fails() -> None:
    worse = accuracies(both=390, better=50, worse=110, neither=450)
    assert judged(worse, significance="0.05").verdict == "Failed"
    assert judged(worse, minimumGain="0").verdict == "Failed"
    assert judged(accuracies(0, 5, 5, 0), significance="0.5").verdict == "Inconclusive"


def test_a_stricter_significance_takes_more_rows_and_widens_the_interval() -> None:
    assert judged(GOOD, significance="0.000001").verdict == "Inconclusive"
    assert judged(GOOD, minimumGain="0.105", significance="0.05").verdict == "Failed"
    assert judged(GOOD, minimumGain="0.105", significance="0.000001").verdict == "Inconclusive"


def test_the_figures_are_in_the_message_and_whole_in_the_document() -> None:
    found = judged(FEW, minimum="0.5", minimumGain="0.07", significance="0.05")
    status = found.status
    assert (status.metric, status.verdict) == ("Accuracy", "Inconclusive")
    assert status.message is not None
    assert status.message == (
        "gain 0.06 [-0.0203, 0.146], minimumGain 0.07, n=100; p=0.21 (McNemar exact, 11 rows better, 5 rows worse), "
        "significance 0.05; tuned 0.5 [0.404, 0.596], minimum 0.5, n=100; 100 rows find a gain of 0.111 with 80% power"
    )
    document = json.loads(json.dumps(found.document))
    minimum, gain, significance = document["criteria"]
    assert minimum["criterion"] == "minimum"
    assert (minimum["figure"], minimum["verdict"], minimum["rows"]) == ("0.5", "Passed", 100)
    assert (gain["asked"], gain["better"], gain["worse"]) == ("0.07", 11, 5)
    # Connor's formula turned round: as many rows as there are would find the least difference that they tell.
    least, share = float(gain["detectable"]), 0.16
    root = 1.959964 * math.sqrt(share) + 0.841621 * math.sqrt(share - least**2)
    assert (root / least) ** 2 == pytest.approx(100, rel=1e-4)
    assert float(significance["pValue"]) == pytest.approx(mcnemar_exact(11, 5), rel=1e-2)


@pytest.mark.parametrize(
    ("margin", "better", "worse", "verdict"),
    [
        ("0.02", 30, 30, "Passed"),
        ("0.02", 60, 60, "Inconclusive"),
        ("0.05", 60, 60, "Passed"),
        ("0.02", 20, 70, "Failed"),
        ("0.05", 20, 70, "Inconclusive"),
    ],
)
def test_not_worse_than_an_earlier_report_must_be_shown_within_the_margin(
    margin: str, better: int, worse: int, verdict: str
) -> None:
    ours = report_of(None, [chosen(one < 400 + better) for one in range(1000)])
    # Their model has the same rows right but for those that only one of the two has.
    theirs = report_of(None, [chosen(one < 400 or 500 <= one < 500 + worse) for one in range(1000)])
    found = judged(ours, theirs, notWorseThan={"report": URI, "margin": margin})
    assert found.verdict == verdict
    (criterion,) = found.document["criteria"]
    assert (criterion["better"], criterion["worse"], criterion["rows"]) == (better, worse, 1000)
    assert (criterion["report"], criterion["reportSha256"]) == (URI, "c" * 64)


def test_rows_of_two_reports_are_paired_by_their_digest_alone() -> None:
    ours = report_of(None, [chosen(True)] * 60, first=40)
    theirs = report_of(None, [chosen(one % 2 == 0) for one in range(100)])
    theirs = StoredReport(rows=theirs.rows[::-1])
    (criterion,) = judged(ours, theirs, notWorseThan={"report": URI, "margin": "0.1"}).document["criteria"]
    assert (criterion["rows"], criterion["better"], criterion["worse"]) == (60, 30, 0)


def perplexities(rows: int, gain: float, seed: int = 1) -> StoredReport:
    """Rows of 10 tokens; the tuned model is likelier by ``gain`` nats a token on the mean, give or take 0.2."""
    draw = random.Random(seed)
    base = [draw.gauss(-20, 4) for _ in range(rows)]
    tuned = [one + 10 * draw.gauss(gain, 0.2) for one in base]
    return report_of([*map(likelihood, base)], [*map(likelihood, tuned)])


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        ({"maximum": "7"}, "Passed"),
        ({"maximum": "6.5"}, "Inconclusive"),
        ({"maximum": "5"}, "Failed"),
        ({"minimumGain": "0.05"}, "Passed"),
        ({"minimumGain": "0.3"}, "Failed"),
        ({"significance": "0.001"}, "Passed"),
        ({"minimum": "9"}, "Failed"),
    ],
)
def test_of_perplexity_less_is_better_and_a_gain_is_relative(gate: dict[str, str], verdict: str) -> None:
    # Base e**2 = 7.4 or so, tuned a tenth less.
    found = judged(perplexities(400, 0.1), metric="Perplexity", **gate)
    assert found.verdict == verdict, found.status.message


def test_a_gain_of_perplexity_is_what_the_two_values_say() -> None:
    report = perplexities(200, 0.1)
    totals = {
        side: sum(one["rightLogLikelihood"] for row in report.rows for one in row.seen(side, "Perplexity"))
        for side in ("base", "tuned")
    }
    (criterion,) = judged(report, metric="Perplexity", minimumGain="0").document["criteria"]
    ratio = math.exp(-totals["tuned"] / 2000) / math.exp(-totals["base"] / 2000)
    assert float(criterion["figure"]) == pytest.approx(1 - ratio, rel=1e-4)
    # The delta method: the ratio is exp of a mean, so its error is the ratio's times that of the mean.
    apart = [
        (row.base["Perplexity"]["rightLogLikelihood"] - row.tuned["Perplexity"]["rightLogLikelihood"]) / 10
        for row in report.rows
    ]
    mean = sum(apart) / 200
    error = ratio * math.sqrt(sum((one - mean) ** 2 for one in apart) / 199 / 200)
    ends = criterion["interval"]
    assert float(ends["low"]) == pytest.approx(1 - ratio - 1.96 * error, abs=0.15 * error)
    assert float(ends["high"]) == pytest.approx(1 - ratio + 1.96 * error, abs=0.15 * error)


def test_perplexities_that_differ_by_chance_alone_are_not_significant() -> None:
    assert judged(perplexities(60, 0.0), metric="Perplexity", significance="0.05").verdict == "Inconclusive"


@pytest.mark.parametrize(("loss", "verdict"), [("0.2", "Passed"), ("0.105", "Inconclusive"), ("0.05", "Failed")])
def test_what_was_forgotten_is_told_by_the_retention_rows(loss: str, verdict: str) -> None:
    kept = perplexities(300, -0.1)
    report = report_of(None, [chosen(True)], retention=[(row.base, row.tuned) for row in kept.rows])
    found = judged(report, metric="Perplexity", maximumRetentionLoss=loss)
    assert found.verdict == verdict, found.status.message
    # An accuracy lost is in points.
    forgotten = accuracies(both=300, better=4, worse=14, neither=182)
    report = report_of(None, [chosen(True)], retention=[(row.base, row.tuned) for row in forgotten.rows])
    assert judged(report, maximumRetentionLoss="0.05").verdict == "Passed"
    assert judged(report, maximumRetentionLoss="0.001").verdict == "Failed"


def test_a_conversation_counts_as_one_row_however_many_responses_it_has() -> None:
    def part(total: float) -> dict[str, Any]:
        return {"tuned": likelihood(total), "base": likelihood(total - 5)}

    rows = [{"sha256": f"{number:064x}", "responses": [part(-20), part(-30)]} for number in range(12)]
    report = StoredReport.model_validate({"rows": rows})
    (criterion,) = judged(report, metric="Perplexity", maximum="20").document["criteria"]
    assert criterion["rows"] == 12
    assert float(criterion["figure"]) == pytest.approx(math.exp(2.5), rel=1e-4)


@pytest.mark.parametrize("entry", [{}, {"Accuracy": {}}, {"Accuracy": {"right": "yes"}}, {"Accuracy": {"right": None}}])
def test_a_metric_that_no_row_counts_in_is_inconclusive(entry: dict[str, Any]) -> None:
    found = judged(report_of([entry] * 3, [entry] * 3), minimum="0.5", minimumGain="0.1")
    assert found.verdict == "Inconclusive"
    assert found.status.message == (
        "minimum 0.5: no row counts in the metric; minimumGain 0.1: no row counts in the metric"
    )


def test_a_perplexity_beyond_all_numbers_is_inconclusive() -> None:
    report = report_of([likelihood(-1e6)] * 20, [likelihood(-1e6)] * 20)
    assert judged(report, metric="Perplexity", maximum="5").verdict == "Inconclusive"
    assert judged(report, metric="Perplexity", minimumGain="0").verdict == "Inconclusive"


def test_the_same_seed_gives_the_same_verdict_to_the_digit() -> None:
    first, second = (judged(perplexities(50, 0.05), metric="Perplexity", minimumGain="0.04") for _ in range(2))
    assert first.document == second.document


def test_every_metric_can_be_judged_by_its_rows_and_says_which_way_is_better() -> None:
    for name, metric in METRICS.items():
        assert metric.better in ("Higher", "Lower")
        assert type(metric).hit is not Metric.hit or type(metric).sums is not Metric.sums
        # The advice before training looks at shares of rows, and the plugin shows these as percentages.
        assert is_share(name) is (metric.hit({"right": True, "counts": True, "same": True}) is not None)
    assert set(retention_metrics([])) <= set(METRICS)


def permuted(report: StoredReport, draw: random.Random) -> StoredReport:
    """The same scores, where on each row it is drawn anew which of the two models they are of."""
    rows = [
        row.model_copy(update={"base": row.tuned, "tuned": row.base}) if draw.random() < 0.5 else row
        for row in report.rows
    ]
    return StoredReport(rows=rows)


def test_under_200_permutations_of_the_labels_a_significance_gate_passes_in_at_most_one_of_twenty() -> None:
    """A gate that lets chance pass too often would show here; the chance of each permutation is known exactly.

    160 discordant rows fall to either model like coins. McNemar's test is two-sided and exact, and the gate wants the
    tuned model to be the better one, so that a permutation passes with the chance of the upper tail: below 2.5%.
    """
    draw, passed = random.Random(700), 0
    least = next(better for better in range(81, 161) if mcnemar_exact(better, 160 - better) < 0.05)
    for _ in range(200):
        report = permuted(GOOD, draw)
        better = sum(row.tuned["Accuracy"]["right"] > row.base["Accuracy"]["right"] for row in report.rows)
        verdict = judged(report, significance="0.05").verdict
        assert (verdict == "Passed") is (better >= least)
        passed += verdict == "Passed"
    chance = sum(math.comb(160, better) for better in range(least, 161)) / 2**160
    assert chance < 0.025
    assert passed <= 10  # 5% of 200
    expected, spread = 200 * chance, math.sqrt(200 * chance * (1 - chance))
    assert abs(passed - expected) <= 3.3 * spread  # binomial noise, 1 in 1,000
    assert judged(GOOD, significance="0.05").verdict == "Passed"


def test_right_answers_that_are_dealt_anew_over_the_rows_make_no_gate_pass_more_often_than_chance() -> None:
    """The same with stored choices: both models keep theirs, but no longer know what is right."""
    letters = "ABCD"
    right = [letters[row % 4] for row in range(400)]
    draw = random.Random(7)
    base = [draw.choice(letters) for _ in range(400)]
    tuned = [letter if draw.random() < 0.9 else draw.choice(letters) for letter in right]

    def verdict(answers: list[str]) -> str:
        sides = [[chosen(said == letter) for said, letter in zip(side, answers, strict=True)] for side in (base, tuned)]
        return judged(report_of(*sides), significance="0.05").verdict

    assert verdict(right) == "Passed"
    passed = 0
    for _ in range(200):
        draw.shuffle(right)
        passed += verdict(right) == "Passed"
    # At most 5%, give or take three standard deviations of 200 draws: 10 + 3 * sqrt(200 * 0.05 * 0.95) = 19.
    assert passed <= 19
