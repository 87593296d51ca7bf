"""Results on their way through a termination message of at most 4,096 bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from finetune_api import reasons, termination
from finetune_api.checks import MAX_CHECKS
from finetune_api.evaluation import EvaluationSpec, MetricName
from finetune_api.judge_status import JudgeAgreement, JudgePreference, JudgeScore, JudgeStatus
from finetune_api.results import (
    MAX_LOG,
    MAX_MESSAGE,
    AdapterStatus,
    Advice,
    Answer,
    DatasetRevision,
    DatasetStatus,
    DeviceMemory,
    EvaluationStatus,
    FailureStatus,
    GateStatus,
    HostMemory,
    Interval,
    LineageStatus,
    MemoryStatus,
    MetricStatus,
    MetricValue,
    PairedTest,
    RowCount,
    RowLengths,
    RowsRevision,
    SampleAnswer,
    SliceStatus,
    StageLineage,
    StageResult,
    TrainingStatus,
)


def result(**sections: Any) -> StageResult:
    sections = {"stage": "Evaluate", "evaluation_sha256": "b" * 64, **sections}
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return StageResult(job_uid="u", training_sha256="a" * 64, finished_at=moment, **sections)


def through(sent: StageResult) -> StageResult:
    message = termination.encode(sent)
    assert len(message.encode()) <= termination.LIMIT_BYTES
    read = termination.decode(message)
    assert read is not None
    return read


DEFAULT_METRICS = tuple(EvaluationSpec.model_fields["metrics"].default)


def evaluation(text: str = "ü", names: tuple[str, ...] = DEFAULT_METRICS) -> EvaluationStatus:
    answer = Answer(text=text * 512, names="Option", option="A", right=True)
    sample = SampleAnswer(prompt=text * 512, expected=text * 256, base=answer, tuned=answer)
    value = MetricValue(value="0.123456", interval95=Interval(low="0.123456", high="0.234567"))
    test = PairedTest(name="McNemar exact", base_only=123456, tuned_only=654321)
    metrics = [
        MetricStatus(name=name, base=value, tuned=value, difference="0.1", p_value="0.01", paired_test=test)
        for name in names
    ]
    uri = f"pvc://{'c' * 63}/{'f' * 60}"
    return EvaluationStatus(
        summary="0.1→0.2",
        examples=9,
        metrics=metrics,
        samples=[sample] * 3,
        report_uri=f"{uri}/report.json",
        page_uri=f"{uri}/report.html",
    )


@pytest.mark.parametrize("text", ["a", "ü", "語", "😀", '"', "\u0007"])
def test_the_verdict_of_every_gate_arrives_and_what_is_said_of_those_that_passed_goes_first(text: str) -> None:
    def gates(*verdicts: str) -> list[GateStatus]:
        return [GateStatus(metric="M" * 64, verdict=one, message=text * 256) for one in verdicts]

    told = gates("Passed", "Failed", "V" * 64, "Passed", "Inconclusive", "Passed", "Passed", "Passed")
    uri = "pvc://" + "c" * 253 + "/" + "d" * 240
    advice = [Advice(reason=f"R{number}", message=text * 512) for number in range(8)]
    sent = evaluation(text).model_copy(update={"gates": told, "report_uri": uri})
    read = through(result(evaluation=sent, advice=advice)).evaluation
    assert read is not None
    assert [one.verdict for one in read.gates] == [one.verdict for one in told]
    few = [one.model_copy(update={"message": "m" * 256}) for one in gates(*["Passed"] * 7, "Failed")]
    read = through(result(evaluation=sent.model_copy(update={"gates": few}), advice=advice)).evaluation
    assert read is not None
    assert [one.message is not None for one in read.gates] == [False] * 7 + [True]


def judge(text: str) -> JudgeStatus:
    """As long as it can be."""
    value = MetricValue(value="1.234", interval95=Interval(low="1.234", high="1.234"))
    names = ("Relevance", "Accuracy", "Fluency")
    return JudgeStatus(
        endpoint="https://" + "a" * 248,
        model=text * 128,
        outcome="Incomplete",
        message=text * 256,
        judged=99999,
        unusable=99999,
        unanswered=99999,
        unjudged=99999,
        requests=99999,
        scores=[JudgeScore(name=name, base=value, tuned=value, difference="1.234", p_value="0.123") for name in names],
        preference=JudgePreference(tuned=9999, base=9999, tie=9999, swayed=9999, p_value="0.123"),
        agreement=[JudgeAgreement(name=name, equal="0.1234", alpha="-0.1234") for name in (*names, "Preference")],
    )


def sliced(text: str, count: int = 16) -> EvaluationStatus:
    """The same with as many slices as there may be, each with the longest name."""
    metric = evaluation().metrics[0].model_copy(update={"adjusted_p_value": "0.123"})
    slices = [
        SliceStatus(name=f"{number:02}{text * 126}", examples=123456, metrics=[metric], warning="w" * 64)
        for number in range(count)
    ]
    return evaluation(text).model_copy(update={"slices": slices})


def test_a_result_arrives_as_it_was_sent() -> None:
    short = evaluation().model_copy(update={"samples": evaluation("a").samples[:1]})
    sent = result(evaluation=short, lineage=LineageStatus(seed=7), advice=[Advice(reason="FewRows", message="m")])
    assert through(sent) == sent


def test_a_message_fits_whatever_the_samples_say() -> None:
    read = through(result(evaluation=evaluation()))
    assert read.evaluation is not None
    assert len(read.evaluation.samples) == 3
    assert read.evaluation.metrics == evaluation().metrics


def test_all_metrics_at_once_fit_with_their_values() -> None:
    read = through(result(evaluation=evaluation(names=get_args(MetricName))))
    assert read.evaluation is not None
    assert [metric.name for metric in read.evaluation.metrics] == list(get_args(MetricName))
    assert all(metric.tuned and metric.base and metric.p_value for metric in read.evaluation.metrics)


def test_the_page_beside_the_report_is_left_out_before_the_figures() -> None:
    far = f"pvc://{'c' * 63}/{'f' * 900}"
    long = evaluation().model_copy(update={"report_uri": f"{far}/report.json", "page_uri": f"{far}/report.html"})
    lineage = LineageStatus(mixture=[DatasetRevision(name=f"{n}" * 40, revision="r" * 90) for n in range(8)])
    read = through(result(evaluation=long, lineage=lineage))
    assert read.evaluation is not None
    assert read.evaluation.page_uri is None
    assert read.evaluation.report_uri == long.report_uri
    assert read.evaluation.metrics == long.metrics


@pytest.mark.parametrize("text", ["a", "ü", "語", "😀", '"', "\u0007"])
def test_the_longest_sections_fit_in_any_script(text: str) -> None:
    advice = [Advice(reason="R" * 64, message=text * 512)] * 8
    failure = FailureStatus(reason="R" * 64, message=text * MAX_MESSAGE, exit_code=1, log=text * MAX_LOG)
    read = through(result(failure=failure, advice=advice))
    assert read.failure is not None
    assert read.failure.message.startswith(text * 100)
    assert through(result(evaluation=evaluation(text), advice=advice)).evaluation is not None
    assert through(result(evaluation=sliced(text), advice=advice)).evaluation is not None


@pytest.mark.parametrize("text", ["a", "ü", "語", "😀"])
def test_slices_are_left_out_before_anything_else_is_shortened(text: str) -> None:
    rows = [RowsRevision(name=f"{number}" + "n" * 62, revision="b" * 40, sha256="c" * 64) for number in range(8)]
    read = through(result(evaluation=sliced(text), lineage=LineageStatus(seed=1, slices=rows)))
    assert read.evaluation is not None
    assert read.evaluation.slices == []
    assert read.evaluation.metrics == evaluation().metrics
    few = sliced("a", 2).model_copy(update={"samples": []})
    assert through(result(evaluation=few)).evaluation == few


def test_an_evaluation_of_many_datasets_and_slices_fits_without_the_slices_lineage() -> None:
    uri = "pvc://" + "c" * 253 + "/" + "d" * 240
    rows = [RowsRevision(name=f"{number}" + "n" * 62, revision="b" * 40, sha256="c" * 64) for number in range(8)]
    lineage = LineageStatus(
        model_revision="a" * 40,
        mixture=[DatasetRevision(name=f"{number}" + "m" * 62, revision="b" * 40) for number in range(8)],
        evaluation_dataset_sha256="e" * 64,
        slices=rows,
    )
    sent = result(
        evaluation=sliced("😀").model_copy(update={"report_uri": uri}),
        lineage=lineage,
        stage_lineage=StageLineage(packages="p" * 256, image="i" * 256, trainer_version="1"),
    )
    read = through(sent)
    assert read.lineage == lineage.model_copy(update={"slices": []})


def test_slices_lose_their_intervals_before_they_are_left_out() -> None:
    sent = sliced("a", 6).model_copy(update={"samples": []})
    read = through(result(evaluation=sent))
    assert read.evaluation is not None
    assert [one.name for one in read.evaluation.slices] == [one.name for one in sent.slices]
    (metric,) = read.evaluation.slices[0].metrics
    assert (metric.adjusted_p_value, metric.paired_test) == ("0.123", None)
    assert metric.tuned == MetricValue(value="0.123456")


@pytest.mark.parametrize("text", ["a", "ü", "語", "😀", '"'])
def test_a_judges_means_and_preferences_arrive_whatever_it_says(text: str) -> None:
    uri = "pvc://" + "c" * 253 + "/" + "d" * 240
    sent = evaluation(text).model_copy(update={"judge": judge(text), "report_uri": uri})
    lineage = LineageStatus(model_revision="a" * 40, dataset_sha256="d" * 64, evaluation_dataset_sha256="e" * 64)
    read = through(result(evaluation=sent, lineage=lineage, stage_lineage=StageLineage(packages="p" * 256)))
    assert read.evaluation
    assert read.evaluation.judge
    assert [score.tuned and score.tuned.value for score in read.evaluation.judge.scores] == ["1.234"] * 3
    assert read.evaluation.judge.preference == judge(text).preference
    short = evaluation("a").model_copy(update={"samples": [], "judge": judge("a")})
    assert through(result(evaluation=short)).evaluation == short


def dataset(word: str) -> DatasetStatus:
    """What a mixture of nine datasets comes to, with the longest names."""
    counts = [RowCount(name=f"{number}{word * 62}", rows=9_999_999) for number in range(9)]
    return DatasetStatus(
        summary="9,999,999 of 9,999,999 rows, 9999.9M tokens",
        rows=9_999_999,
        examples=9_999_999,
        tokens=10**12,
        response_tokens=10**12,
        lengths=RowLengths(median=131072, percentile95=131072, longest=131072),
        dropped=counts[:8],
        sources=counts,
        provenance=counts[:8],
        overlap=9_999_999,
        report_uri="pvc://" + "c" * 253 + "/" + "d" * 240,
    )


@pytest.mark.parametrize("word", ["a", "ü", "語"])
def test_a_training_on_nine_datasets_fits_and_keeps_its_counts(word: str) -> None:
    uri = "pvc://" + "c" * 253 + "/" + "d" * 240
    device = DeviceMemory(
        name="NVIDIA H100 80GB HBM3",
        total_bytes=10**11,
        reserved_before_bytes=10**11,
        peak_reserved_bytes=10**11,
        peak_for_training_bytes=10**11,
        reserved_after_bytes=10**11,
        peak_percent="99.9",
    )
    sent = result(
        stage="Train",
        evaluation_sha256=None,
        dataset=dataset(word),
        training=TrainingStatus(
            steps=10**7, runtime_seconds=10**6, packing="Disabled: " + "x" * 120, metrics_uri=uri, attention="SDPA"
        ),
        memory=MemoryStatus(summary="79/79 GiB", devices=[device], host=HostMemory(before_bytes=1, peak_bytes=2)),
        adapter=AdapterStatus(uri=uri, sha256="c" * 64, size_bytes=10**11, files=9),
        lineage=LineageStatus(
            model_revision="a" * 40, mixture=[DatasetRevision(name=f"m{n}", revision="b" * 40) for n in range(8)]
        ),
        stage_lineage=StageLineage(packages="p" * 256, trainer_version="1"),
        advice=[Advice(reason=f"R{number}", message=word * 512) for number in range(8)],
    )
    read = through(sent)
    assert read.adapter == sent.adapter
    assert read.dataset is not None
    assert read.dataset.rows == 9_999_999
    assert read.dataset.overlap == 9_999_999


@pytest.mark.parametrize("text", ["a", "語", "\u0007"])
def test_the_most_metrics_and_checks_fit_and_the_first_ones_arrive(text: str) -> None:
    value = MetricValue(value="-0.123456", interval95=Interval(low="0.123456", high="0.234567"))
    test = PairedTest(name="McNemar exact", base_only=123456, tuned_only=654321)
    names = [*get_args(MetricName), *(f"C{number}" + "h" * 61 for number in range(MAX_CHECKS))]
    metrics = [
        MetricStatus(
            name=name,
            base=value,
            tuned=value,
            difference="-1.23457e-05",
            p_value="1.23e-05",
            paired_test=test,
            examples=9_999_999,
            omitted=text * 256,
        )
        for name in names
    ]
    evaluated = evaluation(text).model_copy(
        update={"metrics": metrics, "report_uri": "pvc://" + "c" * 253 + "/" + "d" * 240}
    )
    advice = [Advice(reason="R" * 64, message=text * 512)] * 8
    revisions = [DatasetRevision(name=f"m{n}", revision="b" * 40) for n in range(8)]
    lineage = LineageStatus(model_revision="a" * 40, mixture=revisions, check_terms_sha256="c" * 64)
    read = through(result(evaluation=evaluated, advice=advice, lineage=lineage)).evaluation
    assert read is not None
    assert [one.name for one in read.metrics] == names[: len(read.metrics)]
    assert len(read.metrics) >= 8
    assert read.metrics[0].p_value == "1.23e-05"


def test_a_long_log_is_cut_at_its_beginning() -> None:
    log = "first" + "ü" * 2000 + "last"
    read = through(result(failure=FailureStatus(reason="TrainerCrashed", message="ü" * 1000, log=log)))
    assert read.failure is not None
    assert read.failure.log is not None
    assert read.failure.log.endswith("last")


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last)", "{}", '{"version": 2}', "[]", "null"])
def test_text_that_is_no_result_is_not_taken_for_one(text: str) -> None:
    assert termination.decode(text) is None


def test_fields_that_no_model_knows_stay_out_of_a_result() -> None:
    sent = json.loads(termination.encode(result(evaluation=evaluation("a"))))
    sent["evaluation"]["smuggled"] = "x" * 100
    read = termination.decode(json.dumps(sent))
    assert read is not None
    assert "smuggled" not in json.dumps(read.to_api())


def test_a_result_of_another_spec_or_object_is_nobody_elses() -> None:
    evaluated = result()
    assert evaluated.belongs_to("Evaluate", "u", "a" * 64, "b" * 64)
    assert not evaluated.belongs_to("Evaluate", "u", "a" * 64, "c" * 64)
    assert not evaluated.belongs_to("Evaluate", "u", "c" * 64, "b" * 64)
    assert not evaluated.belongs_to("Evaluate", "v", "a" * 64, "b" * 64)
    assert not evaluated.belongs_to("Train", "u", "a" * 64, "b" * 64)
    assert result(stage="Train", evaluation_sha256=None).belongs_to("Train", "u", "a" * 64, "b" * 64)


def test_a_failure_may_have_a_reason_of_a_later_version() -> None:
    read = through(result(failure=FailureStatus(reason="SomethingNew", message="m")))
    assert read.failure is not None
    assert reasons.failure_class(read.failure.reason).retry is reasons.Retry.COUNTS
