"""Format MultipleChoice: a question, its options, one of them right.

Options come as a map from letter to text, as a list of texts, as a list of ``{"text", "label"}``, as
``{"text": [...], "label": [...]}``, or as columns of their own (``columns.options: opa,opb,opc,opd``). A CSV cell holds
them as JSON. Letters are the labels where there are some, else A, B, C and so on.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from finetune_api.base import sha256_of
from finetune_api.dataset import Dataset
from finetune_api.rules import fill
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.formats.cells import CellError, cell, decoded, refused, row_of, shown, text_of

Options = dict[str, str]  # letter → text, in the row's order


def parse(raw: object, dataset: Dataset, where: str) -> Example:
    """Turns a raw row into an Example. Raises StageError (DatasetInvalid) with row, column and problem."""
    columns = dataset.columns
    try:
        row = row_of(raw)
        question = text_of(cell(row, columns.question), columns.question)
        options = _options(row, columns.options)
        letter = _right_letter(cell(row, columns.answer_key), options, columns.answer_key)
        if columns.answer != columns.answer_key:
            _check_answer(row.get(columns.answer), options, letter, columns.answer)
    except ValueError as error:
        raise refused(where, error) from error
    return _example(question, options, letter, dataset)


def _example(question: str, options: Options, letter: str, dataset: Dataset) -> Example:
    lines = [fill(dataset.option_template, letter=key, option=text) for key, text in options.items()]
    prompt = fill(dataset.prompt_template, question=question, options="\n".join(lines))
    choices = Choices(
        options=tuple(
            Choice(key, text, fill(dataset.response_template, answer=text, letter=key).strip())
            for key, text in options.items()
        ),
        right=list(options).index(letter),
    )
    response = choices.options[choices.right].response
    return Example(
        messages=(Message("user", prompt), Message("assistant", response)),
        choices=choices,
        question=question,
        # Pairs, because another order of the options is another prompt.
        sha256=sha256_of([question, list(options.items()), letter]),
    )


def _options(row: Mapping[str, Any], column: str) -> Options:
    if column not in row and "," in column:
        names = [name.strip() for name in column.split(",")]
        value: object = [cell(row, name) for name in names]
    else:
        value = decoded(cell(row, column), column)
    pairs = _pairs(value, column)
    options: Options = {}
    for key, text in pairs:
        if text is None:  # Parquet fills the gaps of a map with null
            continue
        letter = text_of(str(key), column, "a letter ")
        if letter in options:
            raise CellError(column, f"letter {letter} stands twice")
        options[letter] = text_of(text, column, f"option {letter} ")
    if len(options) < 2:
        raise CellError(column, f"needs at least 2 options, has {len(options)}")
    return options


def _pairs(value: object, column: str) -> list[tuple[object, object]]:
    """(letter, text) of each option, unchecked."""
    if isinstance(value, Mapping):
        if set(value) == {"text", "label"} and all(isinstance(entry, list) for entry in value.values()):
            if len(value["text"]) != len(value["label"]):
                raise CellError(column, f"has {len(value['text'])} texts and {len(value['label'])} labels")
            return list(zip(value["label"], value["text"], strict=True))
        return list(value.items())
    if isinstance(value, list) and len(value) <= len(string.ascii_uppercase):
        if all(isinstance(entry, Mapping) and {"text", "label"} <= set(entry) for entry in value):
            return [(entry["label"], entry["text"]) for entry in value]
        if all(isinstance(entry, tuple) and len(entry) == 2 for entry in value):  # a map column of Parquet
            return list(value)
        return list(zip(string.ascii_uppercase, value, strict=False))
    raise CellError(
        column,
        f"must be a map from letter to text, a list of at most 26 texts, or texts with labels, not {shown(value)}",
    )


def _right_letter(key: object, options: Options, column: str) -> str:
    """The letter that a key names: as it stands, as an index from 0, or as an option's text."""
    letters = ", ".join(options)
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise CellError(column, f"must be a letter of {letters}, an index from 0 or an option's text, not {shown(key)}")
    text = text_of(str(key), column)
    if text in options:
        return text
    if folded := [letter for letter in options if letter.casefold() == text.casefold()]:
        return folded[0]
    by_index = list(options)[int(text)] if _is_index(text, len(options)) else None
    by_text = [letter for letter, option in options.items() if option == text] if isinstance(key, str) else []
    if by_index and by_text and by_index not in by_text:
        raise CellError(
            column, f"{shown(key)} is the index of option {by_index} and the text of option {by_text[0]}: name a letter"
        )
    if by_index or by_text:
        return by_index or by_text[0]
    raise CellError(
        column,
        f"{shown(key)} is none of the letters {letters}, nor an index from 0 to {len(options) - 1}, nor an option's "
        "text",
    )


def _is_index(text: str, count: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) < count


def _check_answer(value: object, options: Options, letter: str, column: str) -> None:
    """The answer column may be missing, as the key tells it. One that says something else is refused."""
    if value is None:
        return
    answer = text_of(value, column)
    if answer != options[letter]:
        raise CellError(column, f"{shown(answer)} is not the text of option {letter}, {shown(options[letter])}")
