"""Whether the API server refused a child for what its user wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from finetune_api.base import canonical_json
from finetune_api.stages import EVALUATE
from finetune_operator.workload.order import Order

_ANNOTATIONS = "spec.template.annotations"
# What the API server takes of them, in bytes, and what we leave to names and digests.
_MAX_ANNOTATIONS = 256 * 1024
_SMALL_ONES = 2048
_RESOURCES = "spec.template.spec.containers[0].resources"
_TOLERATION = re.compile(r"spec\.template\.spec\.tolerations\[(\d+)\]")
_SELECTOR = "spec.template.spec.nodeSelector"


def is_the_users(fields: Iterable[str], order: Order) -> bool:
    """Whether all ``fields`` of a Job that were found invalid hold what the spec says, and the profile does not."""
    found = list(fields)
    return bool(found) and all(_from_spec(field, order) for field in found)


def _from_spec(field: str, order: Order) -> bool:
    runtime, profile = order.spec.runtime, order.profile.profile
    if field == _ANNOTATIONS:
        return fills_the_annotations(order)
    if field.startswith(_RESOURCES):
        return f"[{profile.gpu_resource_name}]" not in field
    if field.startswith(_SELECTOR):  # the field does not tell which label
        return not profile.node_selector
    toleration = _TOLERATION.match(field)
    return toleration is not None and int(toleration[1]) < len(runtime.tolerations)


def fills_the_annotations(order: Order) -> bool:
    """Whether the run's configuration, which is mostly the spec, is more than a Job can carry."""
    # No stage is told more than the evaluation.
    config = len(canonical_json(order.config(EVALUATE).to_api()).encode())
    authority = len(order.gateway.ca) if order.gateway else 0
    return config + authority + _SMALL_ONES > _MAX_ANNOTATIONS
