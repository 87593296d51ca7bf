"""Reads a generated answer: which option it names, if any."""

from __future__ import annotations

import re

from finetune_trainer.rows import ChoiceRow


def named_option(text: str, row: ChoiceRow, response_template: str) -> str | None:
    """The letter of the option that an answer names; None when it names none of them, so invents one.

    An answer in the response template is read by it, other text as it stands: an option's text, its letter, or both
    ('B: text'). Case and closing punctuation don't matter.
    """
    answer = _normal(_answer_part(text, response_template))
    for letter, option in row.options.items():
        forms = (option, letter, f"{letter}: {option}", f"{letter}. {option}", f"{letter}) {option}")
        if answer in map(_normal, forms):
            return letter
    return None


def _answer_part(text: str, template: str) -> str:
    """What stands where the template has {answer}; the whole text when it doesn't follow the template."""
    pattern = re.escape(template.strip())
    pattern = pattern.replace(re.escape("{answer}"), "(?P<answer>.+?)", 1).replace(re.escape("{letter}"), ".")
    match = re.match(pattern + r"\s*$", text.strip(), re.IGNORECASE | re.DOTALL)
    return match["answer"] if match else text


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .!")
