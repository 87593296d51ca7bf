"""Shapes of rows: the columns and templates of each ``format``, with their defaults.

A format is a class here and its line in :data:`ROW_FORMATS`, and a file in finetune_trainer/data/formats. What follows
from the format is no schema default: finetune_api.defaults fills it in. :func:`format_rules` says in CEL what the
classes say in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from finetune_api.base import ApiModel, FieldError
from finetune_api.rules import Placeholders, rule

Name = Annotated[str, Field(min_length=1, max_length=128)]
Template = Annotated[str, Field(max_length=8192)]
FormatName = Literal["MultipleChoice", "Chat", "Instruction", "Text"]
EndOfText = Literal["Append", "Omit"]


class ColumnsSpec(ApiModel):
    """Names of the dataset's columns. Which apply, and what they are when left out, follows from the format."""

    question: Name | None = Field(default=None, description="MultipleChoice: the question's text. Default: question.")
    options: Name | None = Field(
        default=None,
        description="MultipleChoice: the options. A map from letter to text, a list of texts, texts with labels, or "
        "several columns, separated by commas (opa,opb,opc,opd). Letters are the labels where there are some, else A, "
        "B, C and so on. Default: options.",
    )
    answer: Name | None = Field(
        default=None,
        description="MultipleChoice: the text of the right option. May be missing in the rows, as the key tells it. "
        "Default: answer.",
    )
    answer_key: Name | None = Field(
        default=None,
        description="MultipleChoice: the right option by its letter or label, its index from 0, or its text; it may be "
        "the same column as answer. Default: answer_idx.",
    )
    messages: Name | None = Field(
        default=None,
        description="Chat: the list of turns, each {role, content} or ShareGPT's {from, value}. Default: messages; "
        "where rows have none, conversations, then contents.",
    )
    tools: Name | None = Field(
        default=None,
        description="Chat: tools that the assistant may call, as the chat template takes them. May be missing in the "
        "rows. Default: tools; where rows have none, functions, then toolConfig.",
    )
    instruction: Name | None = Field(default=None, description="Instruction: what to do. Default: instruction.")
    input: Name | None = Field(
        default=None,
        description="Instruction: what to do it with. May be missing or empty in the rows. Default: input.",
    )
    output: Name | None = Field(default=None, description="Instruction: the response. Default: output.")
    system: Name | None = Field(
        default=None,
        description="Chat, Instruction: a system prompt that stands beside the turns. May be missing or empty in the "
        "rows. Default: system; where Chat rows have none, systemInstruction.",
    )
    text: Name | None = Field(default=None, description="Text: the document. Default: text.")
    provenance: Name | None = Field(
        default=None,
        description="Any format: where a row comes from, such as Human or Synthetic, row by row; where a row says "
        "nothing, provenance beside columns holds. Default: none.",
    )
    id: Name | None = Field(
        default=None,
        description="Any format: a row's own name, unique in its dataset. Messages name rows by it, and a second row "
        "of one name is malformed. Default: none.",
    )


class MultipleChoiceColumns(ColumnsSpec):
    """The columns of a MultipleChoice row, as they will be read."""

    question: Name = "question"
    options: Name = "options"
    answer: Name = "answer"
    answer_key: Name = "answer_idx"


class ChatColumns(ColumnsSpec):
    """The columns of a Chat row, as they will be read. Without ``messages``: messages, else conversations."""

    tools: Name = "tools"
    system: Name = "system"


class InstructionColumns(ColumnsSpec):
    """The columns of an Instruction row, as they will be read."""

    instruction: Name = "instruction"
    input: Name = "input"
    output: Name = "output"
    system: Name = "system"


class TextColumns(ColumnsSpec):
    """The columns of a Text row, as they will be read."""

    text: Name = "text"


class MultipleChoiceRows(ApiModel):
    """A question, its options, one of them right."""

    format: Literal["MultipleChoice"] = "MultipleChoice"
    columns: MultipleChoiceColumns = MultipleChoiceColumns()
    prompt_template: Annotated[Template, Placeholders(("question", "options"), ("question",))] = (
        "{question}\n\nOptions:\n{options}\n\nPlease choose the correct answer."
    )
    option_template: Annotated[Template, Placeholders(("letter", "option"), ("option",))] = "{letter}. {option}"
    response_template: Annotated[Template, Placeholders(("answer", "letter"), ("answer", "letter"))] = (
        "The correct answer is {answer}."
    )


class ChatRows(ApiModel):
    """A conversation of several turns."""

    format: Literal["Chat"] = "Chat"
    columns: ChatColumns = ChatColumns()


class InstructionRows(ApiModel):
    """An instruction, perhaps with an input, and the response to it."""

    format: Literal["Instruction"] = "Instruction"
    columns: InstructionColumns = InstructionColumns()
    prompt_template: Annotated[Template, Placeholders(("instruction", "input"), ("instruction",))] = (
        "{instruction}{input}"
    )
    input_template: Annotated[Template, Placeholders(("input",), ("input",))] = "\n\n{input}"
    response_template: Annotated[Template, Placeholders(("output",), ("output",))] = "{output}"


class TextRows(ApiModel):
    """Plain documents, outside of any conversation."""

    format: Literal["Text"] = "Text"
    columns: TextColumns = TextColumns()
    end_of_text: EndOfText = "Append"


RowFormat = Annotated[
    MultipleChoiceRows | ChatRows | InstructionRows | TextRows,
    Field(discriminator="format"),
]
ROW_FORMATS: dict[str, type[MultipleChoiceRows | ChatRows | InstructionRows | TextRows]] = {
    "MultipleChoice": MultipleChoiceRows,
    "Chat": ChatRows,
    "Instruction": InstructionRows,
    "Text": TextRows,
}
COLUMNS: dict[str, type[ColumnsSpec]] = {
    "MultipleChoice": MultipleChoiceColumns,
    "Chat": ChatColumns,
    "Instruction": InstructionColumns,
    "Text": TextColumns,
}
# Fields of a dataset that only some formats have.
FORMAT_FIELDS = ("prompt_template", "option_template", "input_template", "response_template", "end_of_text")
_SHARED_COLUMNS = ("provenance", "id")
# Chat finds these two columns by itself, so that its class has no default for the first.
_COLUMNS_WITHOUT_DEFAULT = {"Chat": ("messages",)}


def columns_of(name: str) -> tuple[str, ...]:
    """The columns that a format reads, by the names of our fields."""
    own = [field for field, info in COLUMNS[name].model_fields.items() if info.default is not None]
    return (*own, *_COLUMNS_WITHOUT_DEFAULT.get(name, ()), *_SHARED_COLUMNS)


def placeholders_of(info: FieldInfo) -> Placeholders | None:
    """The rule of a template's field."""
    return next((mark for mark in info.metadata if isinstance(mark, Placeholders)), None)


WITHOUT_FORMAT = "columns and templates need a format beside them; without one, all three are those of spec.dataset"


def check_format_fields(name: str | None, values: Mapping[str, Any], columns: ColumnsSpec | None) -> None:
    """Raises FieldError for a template or column that a format doesn't have, and for a template that it can't fill.

    ``values`` are those of :data:`FORMAT_FIELDS`, None where unset. Without a name none of them may be set.
    """
    given = {field: value for field, value in values.items() if value is not None}
    if name is None:
        if given or columns is not None:
            raise FieldError("format", WITHOUT_FORMAT)
        return
    for field, value in given.items():
        if name not in _formats_with(field):
            raise FieldError(to_camel(field), f"{_only_for(_formats_with(field))}, not for {name}")
        if placeholders := placeholders_of(ROW_FORMATS[name].model_fields[field]):
            try:
                placeholders.check(value)
            except ValueError as error:
                raise FieldError(to_camel(field), str(error)) from error
    for field in ColumnsSpec.model_fields:
        if columns is not None and getattr(columns, field) is not None and name not in _formats_reading(field):
            raise FieldError(f"columns.{to_camel(field)}", f"{_only_for(_formats_reading(field))}, not for {name}")


def format_rules(optional: bool) -> Iterator[dict[str, str]]:
    """:func:`check_format_fields` as CEL rules at the object; ``optional``: whether it may lack a format."""
    if optional:
        fields = " || ".join(f"has(self.{to_camel(field)})" for field in ("columns", *FORMAT_FIELDS))
        yield rule(f"has(self.format) || !({fields})", WITHOUT_FORMAT, ".format", "FieldValueRequired")
    unless = "!has(self.format) || " if optional else ""
    for field in FORMAT_FIELDS:
        yield from _template_rules(field, unless)
    for field in ColumnsSpec.model_fields:
        if field not in _SHARED_COLUMNS:
            path, formats = f".columns.{to_camel(field)}", _formats_reading(field)
            unset = f"{unless}!has(self.columns) || !has(self{path})"
            yield rule(f"{unset} || self.format in {list(formats)}", _only_for(formats), path, "FieldValueForbidden")


def _template_rules(field: str, unless: str) -> Iterator[dict[str, str]]:
    path, formats = f".{to_camel(field)}", _formats_with(field)
    unset = f"{unless}!has(self{path})"
    yield rule(f"{unset} || self.format in {list(formats)}", _only_for(formats), path, "FieldValueForbidden")
    for name in formats:
        if placeholders := placeholders_of(ROW_FORMATS[name].model_fields[field]):
            told = placeholders.cel(f"self{path}")
            expression = f"{unset} || self.format != '{name}' || {told['rule']}"
            yield rule(expression, f"in format {name} it {told['message']}", path)


def _formats_with(field: str) -> tuple[str, ...]:
    return tuple(name for name, rows in ROW_FORMATS.items() if field in rows.model_fields)


def _formats_reading(column: str) -> tuple[str, ...]:
    return tuple(name for name in COLUMNS if column in columns_of(name))


def _only_for(formats: tuple[str, ...]) -> str:
    return f"is for format{'s' if len(formats) > 1 else ''} {' and '.join(formats)} only"
