"""``spec.evaluation.checks``: what each answer in words is checked for, every check under a name of its own."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from finetune_api.base import ApiModel
from finetune_api.rules import rule, validations
from finetune_api.uris import DestinationURI

MAX_CHECKS = 8
_WAYS = ("pattern", "format", "terms", "termsFrom")
_ONE_WAY = f"a check needs exactly one of {', '.join(_WAYS)}"
_ONE_LIST = "termsFrom needs either source or builtIn"

CheckName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]
Term = Annotated[str, Field(min_length=1, max_length=128, pattern=r"[^ \t\r\n]")]


class TermsFromSpec(ApiModel):
    """Where the terms of a check lie."""

    model_config = {"json_schema_extra": validations(rule("has(self.source) != has(self.builtIn)", _ONE_LIST))}

    source: DestinationURI | None = Field(
        default=None,
        description="pvc://<claim>/<path> of a text file in UTF-8 with a term on each line, at most 10,000 of them; "
        "empty lines and those that begin with # don't count.",
    )
    built_in: Literal["Refusals"] | None = Field(
        default=None,
        description="A list of the trainer's own. Refusals: what assistants say when they decline, in English.",
    )

    @model_validator(mode="after")
    def _check_union(self) -> Self:
        if (self.source is None) == (self.built_in is None):
            raise ValueError(_ONE_LIST)
        return self


class CheckSpec(ApiModel):
    """What every answer is checked for. The share of answers that pass is a metric under the check's name."""

    model_config = {
        "json_schema_extra": validations(
            rule(f"[{', '.join(f'has(self.{way})' for way in _WAYS)}].exists_one(one, one)", _ONE_WAY)
        )
    }

    name: CheckName = Field(description="Its name among the metrics of status and report, such as NamesALetter.")
    expect: Literal["Match", "NoMatch"] = Field(
        default="Match",
        description="Whether an answer passes that matches (an expected format, a refusal that is due) or one that "
        "doesn't (a blocklist, a refusal that is none of the answer's business).",
    )
    pattern: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None,
        description="A regular expression of Python, which matches where it is found anywhere in the answer: ^ and $ "
        "are its beginning and end. One that takes more than a second for an answer gives no value.",
    )
    format: Literal["JSON"] | None = Field(
        default=None, description="JSON: the answer as a whole is a JSON value, without a fence around it."
    )
    terms: list[Term] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Matches where one of them stands in the answer: whole words, whatever their case, width, white "
        "space and kind of apostrophe.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    terms_from: TermsFromSpec | None = Field(default=None, description="The same with terms that lie elsewhere.")

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        # CEL knows RE2's expressions only, so that the API server can't tell.
        try:
            re.compile(pattern or "")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _check_way(self) -> Self:
        if sum(way is not None for way in (self.pattern, self.format, self.terms, self.terms_from)) != 1:
            raise ValueError(_ONE_WAY)
        return self


def check_names_rule(metrics: tuple[str, ...]) -> dict[str, str]:
    """:func:`check_names` as CEL at the list."""
    return rule(
        "self.all(one, self.exists_one(other, other.name == one.name)) && "
        f"self.all(one, !(one.name in {list(metrics)}))",
        _NAMES,
    )


def check_names(checks: list[CheckSpec], metrics: tuple[str, ...]) -> None:
    """Raises ValueError for a name that two checks have, and for that of a metric: they stand in one list."""
    names = [check.name for check in checks]
    if len(set(names)) < len(names) or set(names) & set(metrics):
        raise ValueError(_NAMES)


_NAMES = "a check's name must be no other check's and no metric's"
