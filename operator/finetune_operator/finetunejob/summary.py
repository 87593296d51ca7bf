"""Results in one line, for condition messages. Pure."""

from __future__ import annotations

import math
import re

from finetune_api.gate_verdicts import gate_line
from finetune_api.results import EvaluationStatus, MetricStatus, StageResult
from finetune_api.status import FineTuneJobStatus


def training_message(result: StageResult) -> str:
    """Such as 'loss 2.31 → 0.312 in 200 steps, 1m 42s'."""
    training = result.training
    if training is None:
        return ""
    loss = f"loss {training.first_loss} → {training.final_loss} in " if training.first_loss else ""
    return f"{loss}{training.steps} steps, {training.runtime or f'{training.runtime_seconds}s'}"


def evaluation_message(evaluation: EvaluationStatus | None) -> str:
    """The first metric that has a value, such as 'accuracy 0.412 → 0.447 (+3.5 points, p=0.012, n=1273)'."""
    if evaluation is None:
        return ""
    metric = next((one for one in evaluation.metrics if one.tuned), None)
    return _change(metric, evaluation) if metric else f"{evaluation.summary} (n={evaluation.examples})"


def gates_message(evaluation: EvaluationStatus | None) -> str:
    """Each gate in a line."""
    return "; ".join(gate_line(gate) for gate in evaluation.gates) if evaluation else ""


def success_message(status: FineTuneJobStatus) -> str:
    """What a successful job came to: its evaluation and its gates, or where its adapter or model lies."""
    if status.evaluation:
        gates = gates_message(status.evaluation)
        return "; ".join(filter(None, (evaluation_message(status.evaluation), gates)))
    if status.adapter:
        return f"adapter at {status.adapter.uri}"
    return f"model at {status.model.uri}" if status.model else ""


def _change(metric: MetricStatus, evaluation: EvaluationStatus) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric.name).lower()
    rows = f"n={evaluation.examples if metric.examples is None else metric.examples}"
    tuned, base = metric.tuned.value if metric.tuned else "", metric.base
    if base is None:
        return f"{name} {tuned} ({rows})"
    difference = _number(tuned) - _number(base.value)
    points = f"{difference * 100:+.1f} points" if "accuracy" in name and math.isfinite(difference) else ""
    test = f"p={metric.p_value}" if metric.p_value else ""
    return f"{name} {base.value} → {tuned} ({', '.join(filter(None, (points, test, rows)))})"


def _number(text: str) -> float:
    """What a pod wrote may be no number: then there is nothing to compare."""
    try:
        return float(text)
    except ValueError:
        return math.nan
