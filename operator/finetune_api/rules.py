"""Checks that hold on both sides: a value's rule in Python and the same as CEL in the CRD."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

# Plain or scientific notation, no sign: every decimal in a spec is a quantity that can't be negative.
DECIMAL_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,12})?([eE][-+]?[0-9]{1,2})?$"


Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


def rule(expression: str, message: str, field: str = "", reason: Reason = "FieldValueInvalid") -> dict[str, str]:
    """One CEL validation rule of a structural schema; ``field``: the one below it, such as ``.columns.text``, that a
    refusal names, and ``reason``: in which of Kubernetes' words."""
    told = {"fieldPath": field} if field else {}
    return {"rule": expression, "message": message, **told, **({"reason": reason} if field else {})}


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


# What a template is made of besides plain text: doubled braces, which stand for one, a placeholder, or a stray brace.
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True)
class Placeholders(TextRule):
    """A template with known placeholders, at least one of ``required`` among them.

    A placeholder is a name in braces and nothing else: no conversion, no format, no attribute. Literal braces are
    doubled, as in Python's format strings.
    """

    known: tuple[str, ...]
    required: tuple[str, ...]

    def check(self, text: str) -> str:
        used = set()
        for piece in _PIECE.finditer(text):
            name = piece.group(1)
            if name is None and piece.group() not in _BRACES:
                raise ValueError(
                    f"no template: '{piece.group()}' at character {piece.start() + 1} stands alone; "
                    "write literal braces as {{ and }}"
                )
            if name is not None and name not in self.known:
                raise ValueError(
                    f"unknown placeholder {piece.group()}; there are {self._braced(self.known, ', ')}, without '!' "
                    "or ':'; write literal braces as {{ and }}"
                )
            used.add(name)
        if not used & set(self.required):
            raise ValueError(f"must contain the placeholder {self._braced(self.required, ' or ')}")
        return text

    def cel(self, subject: str = "self") -> dict[str, str]:
        # What is cut out leaves a space, or else its neighbours could join to a placeholder.
        opened = f"{subject}.replace('{{{{', ' ')"
        has = " || ".join(f"{opened}.contains('{{{name}}}')" for name in self.required)
        rest = opened + "".join(f".replace('{{{name}}}', ' ')" for name in self.known) + ".replace('}}', ' ')"
        return rule(
            f"({has}) && !{rest}.matches('[{{}}]')",
            f"must contain the placeholder {self._braced(self.required, ' or ')}, and no other braces than those of "
            f"{self._braced(self.known, ', ')}; literal braces are doubled",
        )

    @staticmethod
    def _braced(names: tuple[str, ...], between: str) -> str:
        return between.join(f"{{{name}}}" for name in names)


def fill(template: str, **values: str) -> str:
    """The template with its placeholders filled in, in one pass: braces in a value are text.

    ``template`` has passed :class:`Placeholders`.
    """

    def _filled(piece: re.Match[str]) -> str:
        name = piece.group(1)
        return _BRACES[piece.group()] if name is None else values[name]

    return _PIECE.sub(_filled, template)


# Decimals are text, since Kubernetes API conventions rule out floats in a spec: their text changes between clients.
def _quoted(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'must be of type string, in quotes as "{value:g}"')
    return value


# The bounds stand first: behind a validator, pydantic leaves a pattern out of the JSON schema.
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), BeforeValidator(_quoted)]
