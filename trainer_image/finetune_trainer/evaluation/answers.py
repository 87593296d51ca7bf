"""Reads a generated answer: which option it names, if any."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune_trainer.data.formats.multiple_choice import ChoiceRow


def named_option(text: str, row: ChoiceRow, response_template: str) -> str | None:
    """The letter of the option that an answer names; None when it names none of them, so invents one.

    An answer in the response template is read by it, other text as it stands: an option's text, its letter, or both
    ('B: text'). Case and closing punctuation don't matter, nor does what follows in later sentences.
    """
    answers = {_normal(part) for part in _answer_parts(text, response_template.strip())}
    for letter, option in row.options.items():
        forms = (option, letter, f"{letter}: {option}", f"{letter}. {option}", f"{letter}) {option}")
        if answers & set(map(_normal, forms)):
            return letter
    return None


def _answer_parts(text: str, template: str) -> Iterator[str]:
    """What may stand where the template has {answer}, with and without later sentences; else the text's first line."""
    lines = text.strip().splitlines()[: template.count("\n") + 1]
    text = "\n".join(lines)
    open_end = re.escape(template.rstrip(" .!")).replace(re.escape("{letter}"), ".")
    closed = re.escape(template).replace(re.escape("{letter}"), ".")
    gap = re.escape("{answer}")
    whole = re.match(open_end.replace(gap, "(.+)", 1) + r"[\s.!]*$", text, re.IGNORECASE)
    sentence = re.match(closed.replace(gap, "(.+?)", 1) + r"(?=\s|$)", text, re.IGNORECASE)
    if whole or sentence:
        yield from (match[1] for match in (whole, sentence) if match)
    else:
        yield text


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .!")
