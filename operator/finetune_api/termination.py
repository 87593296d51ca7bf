"""The termination message: a StageResult as JSON within Kubernetes' limit of 4,096 bytes per container."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from finetune_api.base import canonical_json, cut
from finetune_api.gate_verdicts import PASSED
from finetune_api.judge_status import JudgeScore, JudgeStatus
from finetune_api.results import (
    Answer,
    EvaluationStatus,
    GateStatus,
    MetricStatus,
    MetricValue,
    SampleAnswer,
    SliceStatus,
    StageResult,
)

LIMIT_BYTES = 4096
_SAMPLE_LENGTHS = (512, 320, 200, 120, 60, 0)
_LOG_LENGTHS = (2048, 1200, 600, 200, 0, 0)
_MESSAGE_LENGTHS = (600, 300, 150)
_GATE_LENGTHS = (120, 0)


def encode(result: StageResult) -> str:
    """Encodes a result in at most 4,096 bytes.

    Of slices, which the report has, first the intervals go, then all. Sample answers and log lines are shortened next;
    then advice is left out, then the rows by name of a dataset (which dataset.json has) and the lineage of slices
    (which result.json has), then the message of a failure is cut, then go the place of the page, which lies beside the
    report, then the tests and intervals of metrics and all but the means and preferences of a judge, and at last what
    is said of gates, first of those that have passed, then the last of the metrics: the report has it all. Verdicts of
    gates are never left out. Raises ValueError when it can't be made to fit, which the bounds of the other fields rule
    out.
    """
    for shorter in _ever_shorter(result):
        text = canonical_json(shorter.to_api())
        if len(text.encode()) <= LIMIT_BYTES:
            return text
    raise ValueError(f"a result of {len(text.encode())} bytes does not fit a termination message")


def _ever_shorter(result: StageResult) -> Iterator[StageResult]:
    shorter = result
    if result.evaluation and result.evaluation.slices:
        bare_slices = [_bare_slice(one) for one in result.evaluation.slices]
        for slices in (result.evaluation.slices, bare_slices):
            yield _with_slices(result, result.evaluation, slices)
        result = _with_slices(result, result.evaluation, [])
    for sample_length, log_length in zip(_SAMPLE_LENGTHS, _LOG_LENGTHS, strict=True):
        shorter = _shortened(result, sample_length, log_length)
        yield shorter
    shorter = shorter.model_copy(update={"advice": []})
    yield shorter
    if shorter.dataset:
        counted = shorter.dataset.model_copy(update={"dropped": [], "sources": [], "provenance": []})
        shorter = shorter.model_copy(update={"dataset": counted})
        yield shorter
    if shorter.lineage and shorter.lineage.slices:
        shorter = shorter.model_copy(update={"lineage": shorter.lineage.model_copy(update={"slices": []})})
        yield shorter
    if shorter.failure:
        for length in _MESSAGE_LENGTHS:
            message = cut(shorter.failure.message, length)
            yield shorter.model_copy(update={"failure": shorter.failure.model_copy(update={"message": message})})
    if shorter.evaluation:
        # The page lies beside the report.
        shorter = shorter.model_copy(update={"evaluation": shorter.evaluation.model_copy(update={"page_uri": None})})
        yield shorter
    if shorter.evaluation:
        metrics = [_bare(metric) for metric in shorter.evaluation.metrics]
        judge = _bare_judge(shorter.evaluation.judge)
        bare = shorter.evaluation.model_copy(update={"metrics": metrics, "judge": judge})
        yield shorter.model_copy(update={"evaluation": bare})
        for length in _GATE_LENGTHS:
            gates = [_short_gate(gate, length) for gate in bare.gates]
            bare = bare.model_copy(update={"gates": gates})
            yield shorter.model_copy(update={"evaluation": bare})
        for kept in range(len(metrics), 0, -1):  # the last ones go first: those that the spec names last, and checks
            yield shorter.model_copy(update={"evaluation": bare.model_copy(update={"metrics": metrics[:kept]})})


def _with_slices(result: StageResult, evaluation: EvaluationStatus, slices: list[SliceStatus]) -> StageResult:
    return result.model_copy(update={"evaluation": evaluation.model_copy(update={"slices": slices})})


def _bare_slice(one: SliceStatus) -> SliceStatus:
    return one.model_copy(update={"metrics": [_bare(metric) for metric in one.metrics]})


def _bare(metric: MetricStatus) -> MetricStatus:
    return MetricStatus(
        name=metric.name,
        base=metric.base and MetricValue(value=metric.base.value),
        tuned=metric.tuned and MetricValue(value=metric.tuned.value),
        difference=metric.difference,
        p_value=metric.p_value,
        adjusted_p_value=metric.adjusted_p_value,
    )


def _short_gate(gate: GateStatus, length: int) -> GateStatus:
    kept = gate.message and cut(gate.message, length) if length and gate.verdict != PASSED else None
    return gate.model_copy(update={"message": kept})


def _bare_judge(judge: JudgeStatus | None) -> JudgeStatus | None:
    if judge is None:
        return None
    scores = [
        JudgeScore(
            name=one.name,
            base=one.base and MetricValue(value=one.base.value),
            tuned=one.tuned and MetricValue(value=one.tuned.value),
        )
        for one in judge.scores
    ]
    return judge.model_copy(update={"scores": scores, "agreement": [], "message": None})


def decode(message: str) -> StageResult | None:
    """Parses a termination message. None for text that is no result, such as the kubelet's fallback to log lines."""
    try:
        # What a pod writes is not ours: fields that no model knows don't come into status.
        return StageResult.model_validate_json(message, extra="ignore")
    except ValidationError:
        return None


def _shortened(result: StageResult, sample_length: int, log_length: int) -> StageResult:
    update: dict[str, object] = {}
    if result.evaluation:
        update["evaluation"] = _with_short_samples(result.evaluation, sample_length)
    if result.failure and result.failure.log:
        log = result.failure.log[-log_length:] if log_length else None
        update["failure"] = result.failure.model_copy(update={"log": log})
    return result.model_copy(update=update)


def _with_short_samples(evaluation: EvaluationStatus, length: int) -> EvaluationStatus:
    samples = [_short_sample(sample, length) for sample in evaluation.samples] if length else []
    return evaluation.model_copy(update={"samples": samples})


def _short_sample(sample: SampleAnswer, length: int) -> SampleAnswer:
    return sample.model_copy(
        update={
            "prompt": cut(sample.prompt, length),
            "expected": cut(sample.expected, length),
            "base": _short_answer(sample.base, length),
            "tuned": _short_answer(sample.tuned, length),
        }
    )


def _short_answer(answer: Answer | None, length: int) -> Answer | None:
    return answer and answer.model_copy(update={"text": cut(answer.text, length)})
