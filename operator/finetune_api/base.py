"""What every model of the contract shares: camelCase on the wire, canonical JSON, times and numbers as text."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of all contract models.

    Reading tolerates unknown fields, because an older operator meets newer objects. Code that reads a user's own file
    passes ``extra="forbid", by_name=False`` to ``model_validate``. Writing uses :meth:`to_api`, where what is unset
    stays absent: server-side apply refuses ``null``.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def to_api(self) -> dict[str, Any]:
        """The JSON form for the API server: camelCase keys, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """Base of what stands in status. It keeps fields that it does not know, and writes no empty list.

    Status is written whole, so that an older operator, after a rollback, would otherwise drop what a newer one wrote.
    """

    model_config = ConfigDict(extra="allow")

    @model_serializer(mode="wrap")
    def _without_empty_lists(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value != []}


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(value: Any) -> str:
    """The SHA-256 (64 hex digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(format_time, return_type=str)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
# Decimals that we write ourselves (a loss may be any number): bounded text, read with float().
Number = Annotated[str, Field(max_length=32)]
Short = Annotated[str, Field(max_length=256)]
# One CamelCase word for tools. An open string, never an enum: an older operator meets the words of a newer one.
Word = Annotated[str, Field(min_length=1, max_length=64)]
# Of a wrong value, in characters: a longer one is a template, of which the message names the wrong part.
MAX_SHOWN = 80
# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
MAX_COUNT = 2**53 - 1
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def number(value: float, digits: int = 6) -> str:
    """A float as the short decimal text that status fields carry."""
    return f"{value:.{digits}g}"


def cut(text: str, length: int) -> str:
    """The text, shortened to a length in characters; what is missing shows as '…'."""
    return text if len(text) <= length else text[: length - 1] + "…"


def in_words(name: str) -> str:
    """NearDuplicate becomes 'near duplicate'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def one_line(text: str, length: int) -> str:
    """The text on one line, cut to a length in characters."""
    return cut(" ".join(text.split()), length)


def with_advice(text: str, advice: str, length: int) -> str:
    """What was wrong on one line, cut if it must be, then what to do next, whole."""
    ending = f"; {advice}"
    return one_line(text.rstrip(". "), length - len(ending)) + ending


def field_path(*parts: str | int) -> str:
    """A field as kubectl names it, such as spec.dataset.mixture[0].name; empty parts say nothing."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts if part != "")
    return path.removeprefix(".")


class FieldError(ValueError):
    """What is wrong with a field below the object that a validator looks at: ``field``, such as ``columns.text``."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def first_problem(error: ValidationError, prefix: str = "") -> str:
    """The first error of a model as 'field: what is wrong, not <value>', with the number of further ones."""
    errors = error.errors(include_url=False)
    first = errors[0]
    field = field_path(prefix, *first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return one_line(f'unknown field "{field}"{more}', 512)
    said, given = first["msg"].removeprefix("Value error, "), first.get("input")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        field, said = field_path(field, cause.field), cause.problem
    if first["type"] == "int_type" and isinstance(given, str) and given.strip().lstrip("+-").isdecimal():
        said += ", without quotes"
    value = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    if isinstance(given, str) and (len(given) > MAX_SHOWN or repr(given) in said):  # a whole template, or told already
        value = ""
    return one_line(f"{field or 'the document'}: {said}{value}{more}", 512)
