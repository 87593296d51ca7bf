"""Whether an evaluation's gates let a job succeed. Operator and local run share it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.base import with_advice
from finetune_api.reasons import FAILURES, Reason
from finetune_api.results import MAX_MESSAGE, EvaluationStatus, FailureStatus, GateStatus

PASSED, FAILED, INCONCLUSIVE = "Passed", "Failed", "Inconclusive"


def gates_failure(evaluation: EvaluationStatus, asked: int) -> FailureStatus | None:
    """Why the gates fail a job; None when all have passed.

    ``asked`` is how many the spec has: a trainer that is older than the operator judges none. A verdict that this
    version doesn't know is not Passed.
    """
    gates = evaluation.gates
    failed = [gate for gate in gates if gate.verdict == FAILED]
    unclear = [gate for gate in gates if gate.verdict not in (PASSED, FAILED)]
    if failed:
        return _failure(Reason.GATES_FAILED, failed, len(gates))
    if unclear:
        return _failure(Reason.GATES_INCONCLUSIVE, unclear, len(gates))
    if len(gates) < asked:
        text = f"the trainer judged {len(gates)} of {asked} gates: its image is older than the operator"
        advice = "have the administrator bring the profile's image up to date, and apply under a new name"
        return FailureStatus(reason=Reason.GATES_INCONCLUSIVE.value, message=with_advice(text, advice, MAX_MESSAGE))
    return None


def _failure(reason: Reason, gates: Sequence[GateStatus], of: int) -> FailureStatus:
    said = "; ".join(gate_line(gate) for gate in gates)
    count = f"{len(gates)} of {of} gates: " if of > 1 else ""
    message = with_advice(f"{count}{said}", FAILURES[reason].advice, MAX_MESSAGE)
    return FailureStatus(reason=reason.value, message=message)


def gate_line(gate: GateStatus) -> str:
    """One gate in a line."""
    return f"{gate.metric} {gate.verdict}{f': {gate.message}' if gate.message else ''}"
