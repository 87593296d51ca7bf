"""What every model of the contract shares: camelCase on the wire, canonical JSON, times and numbers as text."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


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


def cut(text: str, length: int) -> str:
    """The text, shortened to a length in characters; what is missing shows as '…'."""
    return text if len(text) <= length else text[: length - 1] + "…"
