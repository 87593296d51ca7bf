"""One-line messages for people."""

from __future__ import annotations

from pydantic import ValidationError

from finetune_api.base import cut
from finetune_api.reasons import FAILURES, Reason
from finetune_api.status import MAX_MESSAGE


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text on one line, cut to ``limit`` characters."""
    return cut(" ".join(text.split()), limit)


def with_advice(reason: Reason, text: str) -> str:
    """What was wrong, cut if it must be, then what to do next."""
    advice = f"; {FAILURES[reason].advice}"
    return one_line(text.rstrip(". "), MAX_MESSAGE - len(advice)) + advice


def first_problem(error: ValidationError, prefix: str = "") -> str:
    """The first error of a model as 'field: what is wrong', with the number of further ones."""
    errors = error.errors(include_url=False)
    first = errors[0]
    field = ".".join(str(part) for part in (prefix, *first["loc"]) if part != "")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    given = first.get("input")
    value = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    return one_line(f"{field or 'the document'}: {first['msg'].removeprefix('Value error, ')}{value}{more}", 512)
