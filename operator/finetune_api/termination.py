"""The termination message: a StageResult as JSON within Kubernetes' limit of 4,096 bytes per container."""

from __future__ import annotations

from pydantic import ValidationError

from finetune_api.base import canonical_json, cut
from finetune_api.results import Answer, EvaluationStatus, SampleAnswer, StageResult

LIMIT_BYTES = 4096
_SAMPLE_LENGTHS = (512, 320, 200, 120, 60, 0)
_LOG_LENGTHS = (2048, 1200, 600, 200, 0, 0)


def encode(result: StageResult) -> str:
    """Encodes a result in at most 4,096 bytes, shortening sample answers and log lines first, then leaving out advice.

    Raises ValueError when it can't be made to fit, which the bounds of the other fields rule out.
    """
    for sample_length, log_length in zip(_SAMPLE_LENGTHS, _LOG_LENGTHS, strict=True):
        text = _encoded(_shortened(result, sample_length, log_length))
        if _fits(text):
            return text
    text = _encoded(_shortened(result, 0, 0).model_copy(update={"advice": []}))
    if not _fits(text):
        raise ValueError(f"a result of {len(text.encode())} bytes does not fit a termination message")
    return text


def decode(message: str) -> StageResult | None:
    """Parses a termination message. None for text that is no result, such as the kubelet's fallback to log lines."""
    try:
        # What a pod writes is not ours: fields that no model knows don't come into status.
        return StageResult.model_validate_json(message, extra="ignore")
    except ValidationError:
        return None


def _encoded(result: StageResult) -> str:
    return canonical_json(result.to_api())


def _fits(text: str) -> bool:
    return len(text.encode()) <= LIMIT_BYTES


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
