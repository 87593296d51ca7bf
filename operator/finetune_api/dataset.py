"""``spec.dataset``: the rows to train on, a union by ``format``, and the held-out rows of the evaluation.

A format is a class here with its columns and templates, a file in finetune_trainer/data/formats, and an entry in
:data:`FORMATS`. What follows from the format is no schema default: finetune_api.defaults fills it in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.rules import Placeholders
from finetune_api.uris import Revision, SourceURI

Name = Annotated[str, Field(min_length=1, max_length=128)]
Split = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Config = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._+-]+$")]
Template = Annotated[str, Field(max_length=8192)]

PromptTemplate = Annotated[Template, Placeholders(("question", "options"), ("question",))]
OptionTemplate = Annotated[Template, Placeholders(("letter", "option"), ("option",))]
ResponseTemplate = Annotated[Template, Placeholders(("answer", "letter"), ("answer", "letter"))]

_CONFIG = "Configuration of a hub dataset; needed where it has several, such as main. Ignored for pvc:// sources."


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


class DatasetSpec(ApiModel):
    """The training rows."""

    source: SourceURI = Field(
        description="hf://<owner>/<repository>, or pvc://<claim>/<path> of a .jsonl, .json, .csv or .parquet file, or "
        "of a folder with <split>.<extension>."
    )
    config: Config | None = Field(default=None, description=_CONFIG)
    revision: Revision = Field(default="main", description="Branch, tag or commit of a hub dataset.")
    split: Split = Field(
        default="train", description="Split to train on: of a hub dataset, or among the files of a folder."
    )
    format: Literal["MultipleChoice"] = Field(
        default="MultipleChoice", description="Shape of a row. MultipleChoice: a question, its options, one right."
    )
    columns: ColumnsSpec | None = Field(default=None, description="Names of the dataset's columns.")
    prompt_template: PromptTemplate | None = Field(
        default=None,
        description="The user's message. MultipleChoice: {question} and {options}, one per line by optionTemplate. "
        "Default: '{question}\\n\\nOptions:\\n{options}\\n\\nPlease choose the correct answer.'",
    )
    option_template: OptionTemplate | None = Field(
        default=None,
        description="A line of {options}, with {letter} and {option}. Default: '{letter}. {option}'.",
    )
    response_template: ResponseTemplate | None = Field(
        default=None,
        description="The assistant's message, which is what the loss sees. MultipleChoice: {answer}, the right "
        "option's text, and {letter}; one of them at least. Default: 'The correct answer is {answer}.'",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that tokenise rows.")


class EvaluationDatasetSpec(ApiModel):
    """Held-out rows, in the format, columns and templates of spec.dataset."""

    source: SourceURI = Field(description="Like spec.dataset.source.")
    config: Config | None = Field(default=None, description=_CONFIG)
    revision: Revision = Field(default="main", description="Branch, tag or commit of a hub dataset.")
    split: Split = Field(default="test", description="Split to evaluate on.")


class MultipleChoiceColumns(ColumnsSpec):
    """The columns of a MultipleChoice row, as they will be read."""

    question: Name = "question"
    options: Name = "options"
    answer: Name = "answer"
    answer_key: Name = "answer_idx"


class MultipleChoiceDataset(DatasetSpec):
    """spec.dataset of format MultipleChoice, with its conditional defaults filled in."""

    format: Literal["MultipleChoice"] = "MultipleChoice"
    columns: MultipleChoiceColumns = MultipleChoiceColumns()
    prompt_template: PromptTemplate = "{question}\n\nOptions:\n{options}\n\nPlease choose the correct answer."
    option_template: OptionTemplate = "{letter}. {option}"
    response_template: ResponseTemplate = "The correct answer is {answer}."


# The resolved union. With a second member it becomes Annotated[A | B, Field(discriminator="format")].
Dataset = MultipleChoiceDataset
FORMATS: dict[str, type[Dataset]] = {"MultipleChoice": MultipleChoiceDataset}
