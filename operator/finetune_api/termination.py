"""The termination message: a StageResult as JSON within Kubernetes' limit of 4,096 bytes per container."""

from __future__ import annotations

from pydantic import ValidationError

from finetune_api.base import canonical_json
from finetune_api.results import EvaluationStatus, StageResult

LIMIT_BYTES = 4096
_SAMPLE_LENGTHS = (512, 320, 200, 120, 60)
_LOG_LENGTHS = (2048, 1200, 600, 200, 0)


def encode(result: StageResult) -> str:
    """Encodes a result in at most 4,096 bytes, shortening sample answers and log lines first.

    Raises ValueError when it can't be made to fit, which the bounds of the other fields rule out.
    """
    for sample_length, log_length in zip(_SAMPLE_LENGTHS, _LOG_LENGTHS, strict=True):
        text = canonical_json(_shortened(result, sample_length, log_length).to_api())
        if len(text.encode()) <= LIMIT_BYTES:
            return text
    text = canonical_json(_shortened(result, 0, 0).to_api())
    if len(text.encode()) > LIMIT_BYTES:
        raise ValueError(f"a result of {len(text.encode())} bytes does not fit a termination message")
    return text


def decode(message: str) -> StageResult | None:
    """Parses a termination message. None for text that is no result, such as the kubelet's fallback to log lines."""
    try:
        return StageResult.model_validate_json(message)
    except ValidationError:
        return None


def _shortened(result: StageResult, sample_length: int, log_length: int) -> StageResult:
    update: dict[str, object] = {}
    if result.evaluation:
        update["evaluation"] = _with_short_samples(result.evaluation, sample_length)
    if result.failure:
        log = result.failure.log[-log_length:] if log_length else ""
        update["failure"] = result.failure.model_copy(update={"log": log})
    return result.model_copy(update=update)


def _with_short_samples(evaluation: EvaluationStatus, length: int) -> EvaluationStatus:
    if not length:
        return evaluation.model_copy(update={"samples": []})
    samples = [
        sample.model_copy(
            update={name: _cut(getattr(sample, name), length) for name in ("prompt", "expected", "base", "tuned")}
        )
        for sample in evaluation.samples
    ]
    return evaluation.model_copy(update={"samples": samples})


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
