"""Format MultipleChoice: a question, its options, one of them right.

Options come as a map from letter to text, as a list of texts, as a list of ``{"text", "label"}``, as
``{"text": [...], "label": [...]}``, or as columns of their own (``columns.options: opa,opb,opc,opd``). A CSV cell holds
them as JSON. Letters are the labels where there are some, else A, B, C and so on.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from finetune_api.base import cut, sha256_of
from finetune_api.row_formats import MultipleChoiceRows
from finetune_api.rules import fill
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.formats.cells import CellError, cell, decoded, shown, text_of

Pairs = list[tuple[object, object]]  # (letter, text), unchecked


@dataclass(frozen=True)
class Options:
    """The options of a row, in its order."""

    texts: dict[str, str]  # by letter
    places: tuple[str | None, ...]  # the letter at each index from 0; None for a gap, which an index counts


def parse(row: Mapping[str, Any], rows: MultipleChoiceRows) -> Example:
    """A row as an Example. Raises ValueError that names the column."""
    columns = rows.columns
    question = text_of(cell(row, columns.question), columns.question)
    options = _options(row, columns.options)
    letter = _right_letter(cell(row, columns.answer_key), options, columns.answer_key)
    if columns.answer != columns.answer_key:
        _check_answer(row.get(columns.answer), options.texts[letter], letter, columns.answer)
    return _example(question, options.texts, letter, rows)


def moved_round(example: Example, places: int, rows: MultipleChoiceRows) -> Example:
    """A parsed row whose options' texts stand ``places`` letters later; the last ones come first.

    What stands around its question and response, such as a system prompt, stays, and so does its digest.
    """
    assert example.choices, "only rows with options have another order"
    letters = [option.letter for option in example.choices.options]
    texts = [option.text for option in example.choices.options]
    moved = dict(zip(letters, texts[-places:] + texts[:-places], strict=True))
    right = letters[(example.choices.right + places) % len(letters)]
    found = _example(example.question, moved, right, rows)
    return replace(example, messages=(*example.messages[:-2], *found.messages), choices=found.choices)


def _example(question: str, options: dict[str, str], letter: str, rows: MultipleChoiceRows) -> Example:
    lines = [fill(rows.option_template, letter=key, option=text) for key, text in options.items()]
    prompt = fill(rows.prompt_template, question=question, options="\n".join(lines))
    choices = Choices(
        options=tuple(
            Choice(key, text, fill(rows.response_template, answer=text, letter=key).strip())
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
        # CSV has no null: an empty cell is none of this row's options.
        pairs = _pairs([None if (value := cell(row, name)) == "" else value for name in names], column)
    else:
        pairs = _pairs(decoded(cell(row, column), column), column)
    texts: dict[str, str] = {}
    places: list[str | None] = []
    for key, text in pairs:
        if text is None:
            places.append(None)
            continue
        letter = text_of(str(key) if isinstance(key, int) else key, column, "a letter ")
        if letter in texts:
            raise CellError(column, f"letter {_short(letter)} stands twice")
        texts[letter] = text_of(text, column, f"option {_short(letter)} ")
        places.append(letter)
    if len(texts) < 2:
        raise CellError(column, f"needs at least 2 options, has {len(texts)}")
    return Options(texts, tuple(places))


def _pairs(value: object, column: str) -> Pairs:
    """(letter, text) of each option, unchecked."""
    if isinstance(value, Mapping):
        lists = [value[name] for name in ("label", "text") if isinstance(value.get(name), list)]
        if len(lists) == 2:
            if len(lists[0]) != len(lists[1]):
                raise CellError(column, f"has {len(lists[1])} texts and {len(lists[0])} labels")
            return list(zip(*lists, strict=True))
        # Parquet fills the gaps of a map with null, and no other file has them.
        return [(letter, text) for letter, text in value.items() if text is not None]
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
    texts = options.texts
    letters = _short(", ".join(texts))
    if isinstance(key, float) and key.is_integer():  # a column of numbers with a gap somewhere, by way of pandas
        key = int(key)
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise CellError(column, f"must be a letter of {letters}, an index from 0 or an option's text, not {shown(key)}")
    text = text_of(str(key), column)
    if text in texts:
        return text
    if folded := [letter for letter in texts if letter.casefold() == text.casefold()]:
        return folded[0]
    # Where letters are numbers themselves, a number that is none of them is no index beside them.
    last = -1 if any(letter.isdecimal() for letter in texts) else len(options.places) - 1
    by_index = options.places[int(text)] if _is_index(text, last + 1) else None
    by_text = [letter for letter, option in texts.items() if _same(option, text)] if isinstance(key, str) else []
    if by_index and by_text and by_index not in by_text:
        options_named = f"index of option {_short(by_index)} and the text of option {_short(by_text[0])}"
        raise CellError(column, f"{shown(key)} is the {options_named}: name a letter")
    if by_index or by_text:
        return by_index or by_text[0]
    index = f"an index from 0 to {last} of an option that is there, nor " if last >= 0 else ""
    raise CellError(column, f"{shown(key)} is none of the letters {letters}, nor {index}an option's text")


def _is_index(text: str, count: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) < count


def _check_answer(value: object, expected: str, letter: str, column: str) -> None:
    """The answer column may be missing or empty, as the key tells it. One that says something else is refused."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return
    answer = text_of(value, column)
    if not _same(answer, expected):
        raise CellError(column, f"{shown(answer)} is not the text of option {_short(letter)}, {shown(expected)}")


def _same(one: str, other: str) -> bool:
    """Whether two texts read alike, however their accents are encoded."""
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def _short(letters: str) -> str:
    """Letters as they stand in an error: a map's keys may be anything."""
    return cut(letters, 100)
