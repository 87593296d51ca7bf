"""Conditions of a FineTuneJob: set one without losing when it last changed. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from finetune_api.status import Condition, ConditionType, FineTuneJobStatus
from finetune_operator.runtime.messages import one_line

Value = Literal["True", "False", "Unknown"]

TYPES: tuple[ConditionType, ...] = ("Succeeded", "Trained", "Evaluated", "Reconciling", "Stalled")


def with_condition(
    status: FineTuneJobStatus, kind: ConditionType, value: Value, reason: str, message: str, now: datetime
) -> FineTuneJobStatus:
    """The status with one condition set. Its transition time moves only when its status does."""
    before = status.condition(kind)
    changed = now if before is None or before.status != value else before.last_transition_time
    condition = Condition(
        type=kind,
        status=value,
        reason=reason,
        message=one_line(message),
        last_transition_time=changed,
        observed_generation=status.observed_generation,
    )
    others = [one for one in status.conditions if one.type != kind]
    order = {name: index for index, name in enumerate(TYPES)}
    conditions = sorted([*others, condition], key=lambda one: order.get(one.type, len(order)))  # type: ignore[call-overload]
    return status.model_copy(update={"conditions": conditions})
