"""One row of a multiple-choice dataset: checked where it comes in, trusted afterwards."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_api.base import cut
from finetune_api.inputs import ColumnsSpec
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

_MAX_SHOWN = 60


@dataclass(frozen=True)
class ChoiceRow:
    """A question, its options by letter, and the letter of the right one."""

    question: str
    options: dict[str, str]
    letter: str

    @property
    def answer(self) -> str:
        """Text of the right option."""
        return self.options[self.letter]


class _BadCellError(ValueError):
    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"column {column!r}: {problem}")


def parse_row(raw: object, columns: ColumnsSpec, where: str) -> ChoiceRow:
    """Turns a raw row into a ChoiceRow.

    ``where`` names the row in the error. Raises StageError (DatasetInvalid) with row, column and problem.
    """
    try:
        if not isinstance(raw, Mapping):
            raise ValueError(f"must be an object with columns, not {_shown(raw)}")
        question = _text(raw, columns.question)
        options = _options(raw, columns.options)
        letter = _text(raw, columns.answer_key)
        if letter not in options:
            raise _BadCellError(columns.answer_key, f"{_shown(letter)} is none of the letters {', '.join(options)}")
        answer = _text(raw, columns.answer)
        if answer != options[letter]:
            raise _BadCellError(
                columns.answer, f"{_shown(answer)} is not the text of option {letter}, {_shown(options[letter])}"
            )
    except ValueError as error:
        raise StageError(Reason.DATASET_INVALID, f"{where}: {error}") from error
    return ChoiceRow(question, options, letter)


def _cell(raw: Mapping[str, Any], column: str) -> Any:
    if column not in raw:
        raise _BadCellError(column, f"missing; the row has {', '.join(map(str, raw)) or 'no columns'}")
    return raw[column]


def _text(raw: Mapping[str, Any], column: str) -> str:
    value = _cell(raw, column)
    if not isinstance(value, str) or not value.strip():
        raise _BadCellError(column, f"must be a text that is not empty, not {_shown(value)}")
    _check_unicode(value, column)
    return value.strip()


def _check_unicode(text: str, column: str) -> None:
    try:  # JSON can hold half of a surrogate pair
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"{_shown(text[error.start])} at character {error.start + 1} is no Unicode character"
        raise _BadCellError(column, problem) from error


def _options(raw: Mapping[str, Any], column: str) -> dict[str, str]:
    value = _decoded(_cell(raw, column), column)
    if isinstance(value, list):
        value = dict(zip(string.ascii_uppercase, value, strict=False)) if len(value) <= 26 else value
    if not isinstance(value, Mapping):
        raise _BadCellError(
            column, f"must be a map from letter to text, or a list of at most 26 texts, not {_shown(value)}"
        )
    options = {str(letter): text for letter, text in value.items() if text is not None}  # Parquet fills gaps with null
    for letter, text in options.items():
        _check_unicode(letter, column)
        if not isinstance(text, str) or not text.strip():
            raise _BadCellError(column, f"option {letter} must be a text that is not empty, not {_shown(text)}")
        _check_unicode(text, column)
    if len(options) < 2:
        raise _BadCellError(column, f"needs at least 2 options, has {len(options)}")
    return {letter: text.strip() for letter, text in options.items()}


def _decoded(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        return value
    try:  # a CSV cell holds the options as JSON
        return json.loads(value)
    except ValueError as error:
        raise _BadCellError(column, f"{_shown(value)} is no JSON map or list: {error}") from error


def _shown(value: object) -> str:
    return cut(repr(value), _MAX_SHOWN)


def prompt_of(row: ChoiceRow, template: str) -> str:
    """The user's message: the prompt template with {question} and {options} (one per line, 'A: text') filled in."""
    options = "\n".join(f"{letter}: {text}" for letter, text in row.options.items())
    return template.format(question=row.question, options=options)


def response_of(row: ChoiceRow, template: str, letter: str | None = None) -> str:
    """The assistant's message for a letter (the right one unless given)."""
    letter = letter or row.letter
    return template.format(answer=row.options[letter], letter=letter).strip()
