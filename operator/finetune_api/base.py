"""What every model of the contract shares: camelCase on the wire, bounded values, decimals as strings."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

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


@dataclass(frozen=True)
class TextRule(ABC):
    """Marks a string in ``Annotated[str, …]`` with a check of ours and the CEL rule that says the same.

    Subclasses give both, so that a file read here and an object sent to the API server meet one rule.
    """

    @abstractmethod
    def check(self, text: str) -> str:
        """Returns the text. Raises ValueError saying what is wrong with it."""

    @abstractmethod
    def cel(self) -> dict[str, str]:
        """The same as a CEL rule."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), **validations(self.cel())}


@dataclass(frozen=True)
class Within(TextRule):
    """A decimal of at least ``low`` (above it, with ``above``) and at most ``high``."""

    low: float
    high: float
    above: bool = False

    def check(self, text: str) -> str:
        number = float(text)
        if number > self.high or number < self.low or (self.above and number == self.low):
            raise ValueError(f"must be {self._words()}, not {text}")
        return text

    def cel(self) -> dict[str, str]:
        sign = ">" if self.above else ">="
        return rule(
            f"double(self) {sign} {self.low:.6f} && double(self) <= {self.high:.6f}",
            f"must be a decimal string {self._words()}",
        )

    def _words(self) -> str:
        return f"{'above' if self.above else 'at least'} {self.low:g} and at most {self.high:g}"


# Decimals are text, since Kubernetes API conventions rule out floats in a spec: their text changes between clients.
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32)]


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
