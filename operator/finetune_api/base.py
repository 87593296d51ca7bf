"""What every model of the contract shares: camelCase on the wire, bounded values, decimals as strings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

# Plain or scientific notation, no sign: every decimal in a spec is a quantity that can't be negative.
DECIMAL_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,12})?([eE][-+]?[0-9]{1,2})?$"


class ApiModel(BaseModel):
    """Base of all contract models.

    Reading tolerates unknown fields, because an older operator meets newer objects. Code that reads a user's own file
    passes ``extra="forbid"`` to ``model_validate``. Writing uses :meth:`to_api`, where what is unset stays absent:
    server-side apply refuses ``null``.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def to_api(self) -> dict[str, Any]:
        """The JSON form for the API server: camelCase keys, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(value: Any) -> str:
    """The SHA-256 (64 hex digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL validation rule of a structural schema."""
    return {"rule": expression, "message": message}


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """JSON-schema extra that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules)}


def _bounds(low: float, high: float, above: bool) -> Callable[[str], str]:
    def check(value: str) -> str:
        number = float(value)
        if number > high or number < low or (above and number == low):
            raise ValueError(f"must be {'above' if above else 'at least'} {low:g} and at most {high:g}, not {value}")
        return value

    return check


def decimal(low: float = 0.0, high: float = 1.0, *, above: bool = False) -> Any:
    """A decimal kept as a string, within ``low`` (excluded with ``above``) and ``high``.

    Kubernetes API conventions rule out floats in a spec: their text changes between clients.
    """
    sign = ">" if above else ">="
    cel = rule(
        f"double(self) {sign} {low:.6f} && double(self) <= {high:.6f}",
        f"must be a decimal string {'above' if above else 'at least'} {low:g} and at most {high:g}",
    )
    return Annotated[
        str,
        Field(pattern=DECIMAL_PATTERN, max_length=32, json_schema_extra=validations(cel)),
        AfterValidator(_bounds(low, high, above)),
    ]


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(format_time, return_type=str)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
# Decimals that we write ourselves (a loss may be any number): bounded text, read with float().
Number = Annotated[str, Field(max_length=32)]


def number(value: float, digits: int = 6) -> str:
    """A float as the short decimal text that status fields carry."""
    return f"{value:.{digits}g}"
