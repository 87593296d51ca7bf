"""Kubernetes' resource.Quantity: its text, and the number that it stands for."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

# As in Kubernetes' own OpenAPI, but without a minus sign, since no pod can ask for less than nothing, and with an
# exponent that its parser reads.
_PATTERN = r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]{1,2}))?$"
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

Quantity = Annotated[
    str,
    Field(max_length=32, json_schema_extra={"x-kubernetes-int-or-string": True}, pattern=_PATTERN),
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]


def amount(quantity: str) -> Decimal:
    """The number that a valid Quantity stands for."""
    number = quantity.rstrip("numkMGTPEi")
    suffix = quantity[len(number) :]
    if suffix.endswith("i"):
        power: int = 1024 ** (1 + "KMGTPE".index(suffix[0]))
        return Decimal(number) * power
    return Decimal(number).scaleb(_DECIMAL.get(suffix, 0))
