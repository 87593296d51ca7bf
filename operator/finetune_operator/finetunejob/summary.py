"""Results in one line, for condition messages. Pure."""

from __future__ import annotations

from finetune_api.results import EvaluationStatus, ModelScores, StageResult
from finetune_api.status import FineTuneJobStatus


def training_message(result: StageResult) -> str:
    """Such as 'loss 2.31 → 0.312 in 200 steps, 1m 42s'."""
    training = result.training
    if training is None:
        return ""
    loss = f"loss {training.first_loss} → {training.final_loss} in " if training.first_loss else ""
    return f"{loss}{training.steps} steps, {training.runtime or f'{training.runtime_seconds}s'}"


def evaluation_message(evaluation: EvaluationStatus | None) -> str:
    """Such as 'accuracy 0.412 → 0.447 (+3.5 points, p=0.012, n=1273)'."""
    if evaluation is None:
        return ""
    for name, pick in (("accuracy", _accuracy), ("letter accuracy", _letter_accuracy)):
        if tuned := pick(evaluation.tuned):
            return _change(name, pick(evaluation.base) if evaluation.base else None, tuned, evaluation)
    return f"{evaluation.summary} (n={evaluation.examples})"


def success_message(status: FineTuneJobStatus) -> str:
    """What a successful job came to: its evaluation, or where its adapter lies."""
    if status.evaluation:
        return evaluation_message(status.evaluation)
    return f"adapter at {status.adapter.uri}" if status.adapter else ""


def _accuracy(scores: ModelScores) -> str | None:
    return scores.accuracy


def _letter_accuracy(scores: ModelScores) -> str | None:
    return scores.letter_accuracy


def _change(name: str, base: str | None, tuned: str, evaluation: EvaluationStatus) -> str:
    if base is None:
        return f"{name} {tuned} (n={evaluation.examples})"
    points = f"{(float(tuned) - float(base)) * 100:+.1f} points"
    test = f"p={evaluation.paired_test.p_value}, " if evaluation.paired_test and name == "accuracy" else ""
    return f"{name} {base} → {tuned} ({points}, {test}n={evaluation.examples})"
