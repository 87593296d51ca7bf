"""When figures that were measured again hold: strictly on the same device, within their uncertainty on another."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.results import EvaluationStatus, StageLineage
from finetune_trainer.verification import Verdict, judge
from finetune_trainer.verify_tables import verdict_lines

GPU = StageLineage(device="NVIDIA L4", trainer_version="0.4.0", packages="torch==2.9.0 peft==0.18.0")
CPU = GPU.model_copy(update={"device": "CPU"})


def measured(accuracy: str = "0.5", perplexity: str = "8.25", **changes: Any) -> EvaluationStatus:
    interval = {"low": "0.4", "high": "0.6"}
    metrics = [
        {
            "name": "Accuracy",
            "base": {"value": "0.25", "interval95": {"low": "0.2", "high": "0.3"}},
            "tuned": {"value": accuracy, "interval95": interval},
            "difference": "0.25",
            "pValue": "0.01",
            "pairedTest": {"name": "McNemar exact", "baseOnly": 1, "tunedOnly": 4},
        },
        {"name": "Perplexity", "tuned": {"value": perplexity}},
    ]
    return EvaluationStatus.model_validate({"summary": "0.25→0.50", "examples": 12, "metrics": metrics, **changes})


def judged(now: EvaluationStatus, runner: StageLineage = GPU, then: EvaluationStatus | None = None) -> Verdict:
    then = then or measured()
    return judge(then, then, now, GPU, runner)


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        (measured(), ()),
        (measured("0.50009"), ()),
        (measured("0.5002"), ("Accuracy tuned: 0.5 then, 0.5002 now",)),
        (measured(perplexity="8.2508"), ()),
        (measured(perplexity="8.2510"), ("Perplexity tuned: 8.25 then, 8.2510 now",)),
        (measured(perplexity="nan"), ("Perplexity tuned: 8.25 then, nan now",)),
        (measured(droppedExamples=1), ("rows left out: 0 then, 1 now",)),
    ],
)
def test_on_the_same_device_every_figure_is_equal(now: EvaluationStatus, differences: tuple[str, ...]) -> None:
    assert judged(now).differences == differences


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        (measured("0.6"), ()),
        (measured("0.61"), ("Accuracy tuned: 0.5 then, 0.61 now",)),
        (measured(perplexity="8.4"), ()),
        (measured(perplexity="8.5"), ("Perplexity tuned: 8.25 then, 8.5 now",)),
        (measured(examples=11), ("rows scored: 12 then, 11 now",)),
    ],
)
def test_on_another_device_a_value_lies_in_its_interval(now: EvaluationStatus, differences: tuple[str, ...]) -> None:
    assert judged(now, CPU).differences == differences


def test_a_metric_that_could_be_had_on_one_side_only_does_not_hold() -> None:
    bare = measured()
    gone = bare.model_copy(update={"metrics": bare.metrics[:1]})
    assert judged(gone, CPU).differences == ("Perplexity tuned: 8.25 then, none now",)
    assert judged(bare, CPU, then=gone).differences == ("Perplexity tuned: none then, 8.25 now",)


def test_a_report_that_says_other_than_the_result_does_not_hold_even_where_the_new_figure_is_compatible() -> None:
    verdict = judge(measured("0.55"), measured("0.5"), measured("0.5"), GPU, CPU)
    assert verdict.differences == ("Accuracy tuned: 0.55 in report.json, 0.5 in result.json",)


def test_retention_counts_like_any_metric() -> None:
    retention = {"examples": 5, "metrics": [{"name": "Perplexity", "tuned": {"value": "10"}}]}
    worse = {"examples": 5, "metrics": [{"name": "Perplexity", "tuned": {"value": "11"}}]}
    verdict = judged(measured(retention=worse), then=measured(retention=retention))
    assert verdict.differences == ("retention Perplexity tuned: 10 then, 11 now",)
    assert [row.name for row in verdict.rows] == ["Accuracy", "Perplexity", "retention Perplexity"]


def test_what_ran_it_otherwise_is_noted_and_decides_nothing() -> None:
    other = StageLineage(
        device="CPU", trainer_version="0.5.0", packages="torch==2.10.0 peft==0.18.0", image="registry/trainer@sha256:1"
    )
    verdict = judged(measured(), other)
    assert verdict.holds
    assert verdict.notes == (
        "device: NVIDIA L4 then, CPU now",
        "image: none then, registry/trainer@sha256:1 now",
        "trainer: 0.4.0 then, 0.5.0 now",
        "torch: 2.9.0 then, 2.10.0 now",
    )
    assert judged(measured()).notes == ()


def test_the_verdict_says_by_which_measure_it_holds() -> None:
    assert verdict_lines(judged(measured())) == ["holds: every figure of 12 rows is equal within 0.0001"]
    assert verdict_lines(judged(measured(), CPU)) == [
        "holds: every figure of 12 rows is on another device within the 95% intervals, or 2% where there is none"
    ]
    assert verdict_lines(judged(measured("0.7"))) == ["does not hold:", "  Accuracy tuned: 0.5 then, 0.7 now"]


def test_a_run_that_did_not_say_its_device_is_compared_as_on_another() -> None:
    unknown = StageLineage()
    assert not judge(measured(), measured(), measured(), unknown, unknown).same_device


def with_slice(value: str = "0.5", adjusted: str = "0.02", examples: int = 7) -> EvaluationStatus:
    metric = {"name": "Accuracy", "tuned": {"value": value}, "pValue": "0.01", "adjustedPValue": adjusted}
    return measured(slices=[{"name": "topic=heart", "examples": examples, "metrics": [metric]}])


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        (with_slice(), ()),
        (with_slice("0.6"), ("slice topic=heart Accuracy tuned: 0.5 then, 0.6 now",)),
        (with_slice(adjusted="0.03"), ("slice topic=heart Accuracy adjusted p: 0.02 then, 0.03 now",)),
        (with_slice(examples=8), ("slice topic=heart rows scored: 7 then, 8 now",)),
    ],
)
def test_what_status_holds_of_slices_is_compared_and_what_it_does_not_is_named(
    now: EvaluationStatus, differences: tuple[str, ...]
) -> None:
    verdict = judged(now, then=with_slice())
    assert verdict.differences == differences
    assert verdict.notes == ("of slices the first metric was compared, the others of report.json not",)
    assert verdict.rows[-1].name == "slice topic=heart Accuracy"
