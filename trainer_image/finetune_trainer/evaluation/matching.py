"""Whether a text matches: a pattern that can't hang, JSON, or one of many terms. Texts are hostile."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import NoReturn

import regex

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

Matcher = Callable[[str], bool]
TIMEOUT_SECONDS = 1.0
# Of scripts that write spaces between words.
_LETTER = r"[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]"
_WHOLE = rf"(?<!{_LETTER})\L<terms>(?!{_LETTER})"
_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼ＇`´", "'"))


class TooSlowError(Exception):
    """A pattern that takes too long for a text."""


def matches_pattern(name: str, pattern: str) -> Matcher:
    """Whether a pattern is found anywhere in a text; ``name`` is the check's, for messages.

    The matcher raises TooSlowError when a text takes longer than a second. Raises StageError (InvalidSpec) for what is
    no pattern.
    """
    try:
        compiled = regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise StageError(
            Reason.INVALID_SPEC, f"spec.evaluation.checks[{name}].pattern: {error}", "write it as Python's re does"
        ) from error

    def matches(text: str) -> bool:
        try:
            return compiled.search(text, timeout=TIMEOUT_SECONDS) is not None
        except TimeoutError as error:
            raise TooSlowError(
                f"its pattern took longer than {TIMEOUT_SECONDS:g} s for an answer of {len(text):,} characters: "
                "write it without repeats inside of repeats"
            ) from error

    return matches


def is_json(text: str) -> bool:
    """Whether a text as a whole is a JSON value (RFC 8259, so neither NaN nor Infinity)."""
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str)  # whatever its digits
    except (ValueError, RecursionError):
        return False
    return True


def matches_terms(terms: Sequence[str]) -> Matcher:
    """Whether one of many terms stands in a text as whole words, which scripts without spaces don't tell.

    Unicode's own boundaries (UAX 29) wouldn't do: for them 'term.more' is one word. Case, width, white space and kinds
    of apostrophes don't count.
    """
    folded = {_folded(term) for term in terms} - {""}
    if not folded:  # terms of nothing that counts
        return lambda text: False
    compiled = regex.compile(_WHOLE, regex.VERSION1, terms=sorted(folded))
    return lambda text: compiled.search(_folded(text)) is not None


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold().split())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
