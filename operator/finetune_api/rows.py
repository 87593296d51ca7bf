"""Rows as a spec names them, wherever it does: their source, how many, and the shape that they have."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from finetune_api.base import ApiModel
from finetune_api.credentials import SecretReference
from finetune_api.row_formats import (
    FORMAT_FIELDS,
    ColumnsSpec,
    EndOfText,
    FormatName,
    Template,
    check_format_fields,
    format_rules,
)
from finetune_api.rules import Decimal, Within, validations
from finetune_api.uris import Revision, SourceURI

Split = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Config = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._+-]+$")]
Provenance = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Z][A-Za-z0-9]*$")]
Weight = Annotated[Decimal, Within(0, 1000, above=True)]

SOURCE = (
    "Where the rows lie: hf://<owner>/<repository>, s3://<bucket>/<key> or pvc://<claim>/<path>. A key or path is a "
    ".jsonl, .json, .csv or .parquet file (the first three also with .gz behind it), or a folder with the split's "
    "files: <split>.<extension>, <split>-<anything>.<extension> for each shard, or a folder <split>/ of them."
)
_CONFIG = "Configuration of a hub dataset; needed where it has several, such as main. Ignored for other sources."
FORMAT = (
    "Shape of a row. MultipleChoice: a question, its options, one right. Chat: a list of turns. Instruction: an "
    "instruction, perhaps an input, and the response. Text: plain documents."
)
OPTIONAL_FORMAT = (
    f"{FORMAT} Left out: format, columns and templates are those of spec.dataset. Without spec.dataset those of "
    "spec.evaluation.dataset, and there MultipleChoice."
)
_PROMPT = (
    "The user's message. MultipleChoice: {question} and {options}, one per line by optionTemplate; default "
    "'{question}\\n\\nOptions:\\n{options}\\n\\nPlease choose the correct answer.'. Instruction: {instruction} and "
    "{input}, which is inputTemplate where the row has an input, else nothing; default '{instruction}{input}'."
)
_RESPONSE = (
    "The assistant's message, which is what the loss sees. MultipleChoice: {answer}, the right option's text, and "
    "{letter}, one of them at least; default 'The correct answer is {answer}.'. Instruction: {output}, its default."
)


class RowsSpec(ApiModel):
    """Rows of one source and one shape, as a user names them."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    source: SourceURI = Field(description=SOURCE)
    format: FormatName | None = Field(default=None, description=OPTIONAL_FORMAT)
    config: Config | None = Field(default=None, description=_CONFIG)
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of a hub dataset. The commit it stood for is recorded in status.lineage. "
        "Ignored for other sources.",
    )
    split: Split = Field(
        default="train", description="Split to train on: of a hub dataset, or among the files of a folder."
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="A Secret of the job's namespace with the source's credentials, which only the job's pods read. "
        "For hf:// its key HF_TOKEN; for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, where needed also "
        "AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL and AWS_CA_BUNDLE (PEM text). Left out: the profile's "
        "environment.",
    )
    columns: ColumnsSpec | None = Field(
        default=None,
        description="Names of the dataset's columns, where they aren't the usual ones of its format, such as "
        "{instruction: prompt, output: completion}.",
    )
    prompt_template: Template | None = Field(default=None, description=_PROMPT)
    option_template: Template | None = Field(
        default=None,
        description="MultipleChoice: a line of {options}, with {option} and perhaps {letter}. Default: "
        "'{letter}. {option}'.",
    )
    input_template: Template | None = Field(
        default=None,
        description="Instruction: what stands for {input} in promptTemplate where the row has an input. Default: "
        "'\\n\\n{input}'.",
    )
    response_template: Template | None = Field(default=None, description=_RESPONSE)
    end_of_text: EndOfText | None = Field(
        default=None,
        description="Text: whether the tokenizer's end-of-text token follows each document. Omit: rows are pieces of "
        "a longer text. Default: Append.",
    )
    max_examples: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Only the first so many well-formed rows are read; of rows to train on, repeats and those that are "
        "too long are then left out of these. Left out: all rows.",
    )

    @property
    def place(self) -> tuple[str | None, ...]:
        """What tells one set of rows from another before anything of them is read."""
        return self.source, self.config, self.split

    def format_fields(self) -> dict[str, Any]:
        """The fields that only some formats have, None where unset."""
        return {field: getattr(self, field) for field in FORMAT_FIELDS}

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


class ReadRowsSpec(RowsSpec):
    """Rows to train on, in whatever number."""

    provenance: Provenance | None = Field(
        default=None,
        description="Where the rows come from, one CamelCase word such as Human, Synthetic or Feedback. Kept with each "
        "row and counted in status.dataset.provenance; columns.provenance says it row by row.",
    )


class TrainingRowsSpec(ReadRowsSpec):
    """Rows to train on, and their share of a mixture."""

    weight: Weight | None = Field(
        default=None,
        description='Share of the mixture, relative to the other weights, a decimal in quotes: with "3" and '
        '"1", three rows in four are of the first. As many rows are taken as that allows without repeating any. Either '
        "spec.dataset and each dataset of its mixture have a weight, or none has, and then all rows are taken.",
    )
