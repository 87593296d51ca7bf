"""``spec.runtime`` as models: what Kubernetes itself would refuse in a pod is refused here, as in the CRD."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.quantities import amount
from finetune_api.runtime import RuntimeSpec


def exists(**fields: Any) -> dict[str, Any]:
    """Tolerations of one that matches by key alone."""
    return {"tolerations": [{"operator": "Exists", **fields}]}


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        (exists(), {"tolerations": [{"value": "a"}]}, "without key needs operator Exists"),
        (exists(key="a"), exists(key="a", value="b"), "operator Exists takes no value"),
        (exists(effect="NoExecute", tolerationSeconds=1), exists(tolerationSeconds=1), "needs effect NoExecute"),
        (exists(key="example.com/a"), exists(key="-a"), "should match"),
        ({"nodeSelector": {"a.b/c": ""}}, {"nodeSelector": {"A.b/c": ""}}, "no label key"),
        ({"nodeSelector": {"a" * 63: "a"}}, {"nodeSelector": {"a" * 64: "a"}}, "no label key"),
        ({"nodeSelector": {"a": "b.c"}}, {"nodeSelector": {"a": "b."}}, "should match"),
        ({"resources": {"limits": {"cpu": 4}}}, {"resources": {"limits": {"cpu": 3}}}, "requests.cpu is more than"),
        (
            {"resources": {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}}},
            {"resources": {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "1G"}}},
            "requests.ephemeral-storage is more than",
        ),
        ({"resources": {"requests": {"cpu": 1}}}, {"resources": {"requests": {"pods": 1}}}, "requests may name cpu"),
        ({"resources": {"requests": {"cpu": "1e1"}}}, {"resources": {"requests": {"cpu": "-1"}}}, "should match"),
    ],
)
def test_a_rule_accepts_a_right_value_and_names_what_is_wrong_with_another(
    good: dict[str, Any], bad: dict[str, Any], complaint: str
) -> None:
    RuntimeSpec.model_validate(good)
    with pytest.raises(ValidationError, match=complaint):
        RuntimeSpec.model_validate(bad)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("4", "4"),
        ("+.5", "0.5"),
        ("1.", "1"),
        ("500m", "0.5"),
        ("2k", "2000"),
        ("1.5Gi", "1610612736"),
        ("2E", "2e18"),
        ("2e3", "2000"),
        ("2E-1", "0.2"),
    ],
)
def test_a_quantity_stands_for_the_number_that_kubernetes_reads(quantity: str, number: str) -> None:
    assert amount(quantity) == Decimal(number)
